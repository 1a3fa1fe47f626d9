package wire

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// AppendFold appends the encoding of f to dst.
func AppendFold(dst []byte, f *pim.Fold) []byte {
	m := wirepb.Fold{Target: uint64(f.Target), Upto: uint64(f.Upto), Recall: markOf(f.Recall), Pin: markOf(f.Pin)}
	if e := f.Edit; e.Seq != 0 {
		m.Edit = &wirepb.Edit{Seq: uint64(e.Seq), By: string(e.By), TimeMs: int64(e.Time), Payload: e.Payload}
	}
	for _, r := range f.Reactions {
		if n := len(m.Reactions); n == 0 || m.Reactions[n-1].Text != r.Text {
			m.Reactions = append(m.Reactions, &wirepb.Reaction{Text: r.Text})
		}
		last := m.Reactions[len(m.Reactions)-1]
		last.By = append(last.By, &wirepb.ReactedBy{User: string(r.User), Seq: uint64(r.Seq), Removed: r.Removed})
	}
	at := len(dst)
	dst = append(dst, make([]byte, m.SizeVT())...)
	if _, err := m.MarshalToSizedBufferVT(dst[at:]); err != nil {
		panic("wire: marshal fold: " + err.Error()) // the buffer has its size: cannot happen
	}
	return dst
}

func markOf(m pim.Mark) *wirepb.Mark {
	if m.Seq == 0 {
		return nil
	}
	return &wirepb.Mark{Seq: uint64(m.Seq), By: string(m.By), TimeMs: int64(m.Time), Removed: m.Removed}
}

// ParseFold reads what AppendFold wrote. An error is KindInvalid. The result shares nothing
// with data.
func ParseFold(data []byte) (pim.Fold, error) {
	var m wirepb.Fold
	if err := m.UnmarshalVT(data); err != nil {
		return pim.Fold{}, pim.Errorf(pim.KindInvalid, "fold: %w", err)
	}
	return FoldOf(&m)
}

// FoldOf returns m as a pim.Fold, which takes over the payload of m's edit. It fails with
// KindInvalid if m has no target, or reactions that do not ascend.
func FoldOf(m *wirepb.Fold) (pim.Fold, error) {
	f := pim.Fold{Target: pim.Seq(m.Target), Upto: pim.Seq(m.Upto), Recall: readMark(m.Recall), Pin: readMark(m.Pin)}
	if e := m.Edit; e.GetSeq() != 0 {
		f.Edit = pim.Edit{Seq: pim.Seq(e.Seq), By: pim.UserID(e.By), Time: pim.Millis(e.TimeMs), Payload: e.Payload}
	}
	for i, r := range m.Reactions {
		for k, by := range r.By {
			if i > 0 && r.Text <= m.Reactions[i-1].Text || k > 0 && by.User <= r.By[k-1].User {
				return pim.Fold{}, pim.Errorf(pim.KindInvalid, "fold of seq %d: reaction %q of %q is not in order", m.Target, r.Text, by.User)
			}
			f.Reactions = append(f.Reactions, pim.Reaction{Text: r.Text, User: pim.UserID(by.User), Seq: pim.Seq(by.Seq), Removed: by.Removed})
		}
	}
	if f.Target == 0 {
		return pim.Fold{}, pim.Errorf(pim.KindInvalid, "a fold of no message")
	}
	return f, nil
}

func readMark(m *wirepb.Mark) pim.Mark {
	if m == nil {
		return pim.Mark{}
	}
	return pim.Mark{Seq: pim.Seq(m.Seq), By: pim.UserID(m.By), Time: pim.Millis(m.TimeMs), Removed: m.Removed}
}
