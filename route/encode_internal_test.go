package route

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/route/routepb"
	"pgregory.net/rapid"
)

// draw sets all exported fields of a struct, but for those named. If full is set, none is zero.
func draw(t *rapid.T, v reflect.Value, full bool, but ...string) {
	least := 0
	if full {
		least = 1
	}
fields:
	for i := range v.NumField() {
		field := v.Type().Field(i)
		for _, name := range but {
			if field.Name == name {
				continue fields
			}
		}
		if !field.IsExported() {
			continue
		}
		drawValue(t, v.Field(i), field.Name, uint64(least))
	}
}

func drawValue(t *rapid.T, f reflect.Value, name string, least uint64) {
	switch f.Kind() {
	case reflect.String:
		f.SetString(rapid.StringN(int(least), 20, -1).Draw(t, name))
	case reflect.Bool:
		f.SetBool(least > 0 || rapid.Bool().Draw(t, name))
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		f.SetUint(rapid.Uint64Range(least, 1<<f.Type().Bits()-1).Draw(t, name))
	case reflect.Int64:
		n := rapid.Int64().Draw(t, name)
		if n == 0 {
			n = int64(least)
		}
		f.SetInt(n)
	case reflect.Array:
		for i := range f.Len() {
			drawValue(t, f.Index(i), name, least)
		}
	case reflect.Slice:
		n := rapid.IntRange(int(least), 5).Draw(t, name)
		if n == 0 {
			return // an empty slice comes back as nil
		}
		f.Set(reflect.MakeSlice(f.Type(), n, n))
		for i := range n {
			drawValue(t, f.Index(i), name, least)
		}
	default:
		t.Fatalf("field %s is a %s: the test does not know how to set it", name, f.Type())
	}
}

// All fields of conv.Request and of conv.Answer reach the other node. The test walks over the fields, so a
// new one that is forgotten in encode.go fails it.
func TestNoFieldIsForgotten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { roundTrips(t, true) })
}

func TestRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { roundTrips(t, false) })
}

func roundTrips(t *rapid.T, full bool) {
	var r, back conv.Request
	draw(t, reflect.ValueOf(&r).Elem(), full, "Origin", "Came") // Came: see TestWhatIsSentAgainSaysSo
	number := rapid.Uint64().Draw(t, "number")
	var m, read routepb.Request
	encodeRequest(&m, number, &r)
	if body, err := m.MarshalVT(); err != nil || read.UnmarshalVT(body) != nil {
		t.Fatal(err)
	}
	decodeRequest(&back, &read)
	if read.Number != number || !reflect.DeepEqual(back, r) {
		t.Fatalf("request %d\n%+v\nhas become %d\n%+v", number, r, read.Number, back)
	}

	a := conv.Answer{Request: &r}
	draw(t, reflect.ValueOf(&a).Elem(), full, "Request", "Err")
	if got := answerTrip(t, number, &a); !reflect.DeepEqual(got, a) {
		t.Fatalf("answer\n%+v\nhas become\n%+v", a, got)
	}

	var e pim.Error
	draw(t, reflect.ValueOf(&e).Elem(), full, "Err")
	failed := conv.Answer{Request: &r, Err: &e}
	if got := answerTrip(t, number, &failed); !reflect.DeepEqual(got, failed) {
		t.Fatalf("error\n%#v\nhas become\n%#v", e, got.Err)
	}
	e.Err = errors.New("the cause")
	var got *pim.Error
	if !errors.As(answerTrip(t, number, &failed).Err, &got) || got.Err == nil || got.Err.Error() != "the cause" {
		t.Fatalf("the cause of an error is %v", got.Err)
	}
}

func answerTrip(t *rapid.T, number uint64, a *conv.Answer) conv.Answer {
	m := routepb.Answers{Answers: []*routepb.Answer{encodeAnswer(number, a)}}
	var read routepb.Answers
	if body, err := m.MarshalVT(); err != nil || read.UnmarshalVT(body) != nil {
		t.Fatal(err)
	}
	if read.Answers[0].Number != number {
		t.Fatalf("the number is %d, want %d", read.Answers[0].Number, number)
	}
	return decodeAnswer(read.Answers[0], a.Request)
}

// An error that is no *pim.Error, and the kind of a later version, are errors all the same.
func TestStrangeFailures(t *testing.T) {
	if e := decodeFailure(encodeFailure(errors.New("oh"))); pim.KindOf(e) != pim.KindUnknown || e.Error() != "oh (unknown)" {
		t.Error(e)
	}
	if e := decodeFailure(&routepb.Failure{Kind: 1000, RetryAfterNs: int64(time.Second)}); pim.KindOf(e) != pim.KindUnknown {
		t.Error(e)
	}
}

// Whatever comes from the bus as a body, nothing breaks.
func FuzzBodies(f *testing.F) {
	s := routepb.Submit{Life: 1, Lane: 2, Round: 3, Requests: []*routepb.Request{{Number: 18, Conversation: "u:a", Payload: []byte("x")}}}
	a := routepb.Answers{Life: 1, Answers: []*routepb.Answer{{Number: 1, Failure: &routepb.Failure{Kind: 8}}, {Number: 2, Seq: 1}}, UnderWay: []uint64{3}, Missed: &routepb.Missed{Lane: 99, Round: 7}, Gap: true}
	for _, m := range []interface{ MarshalVT() ([]byte, error) }{&s, &a} {
		body, err := m.MarshalVT()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(_ *testing.T, body []byte) {
		r := New(Options{Bus: nowhere{}, Gateway: discard{}, Home: discard{}, Writers: func(conv.Outlet) Writer { return discard{} }})
		defer r.Close()
		var m routepb.Answers
		if m.UnmarshalVT(body) == nil {
			r.life = m.Life
		}
		r.receiveAnswers("b", body)
		r.receiveSubmit("b", body)
		r.gap("b")
		r.receiveSubmit("b", body)
	})
}
