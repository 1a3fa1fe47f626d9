package attacks

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/lbs"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// attackers is how many goroutines attack at once.
const attackers = 8

// tries has some attackers try one thing after the other until ctx ends. After n tries it is enough. It returns how many
// there were, and in which time.
func (a *arena) tries(ctx context.Context, n int, try func(k int)) (int, time.Duration) {
	begun := time.Now()
	var count atomic.Int64
	var work sync.WaitGroup
	for range attackers {
		work.Go(func() {
			for ctx.Err() == nil {
				k := int(count.Add(1))
				try(k)
				if k == n {
					a.enough()
				}
			}
		})
	}
	work.Wait()
	return int(count.Load()), time.Since(begun)
}

// rate returns so many in a time as words.
func rate(n int, took time.Duration) string {
	return fmt.Sprintf("%.0f a second", float64(n)/took.Seconds())
}

func (a *arena) logins(ctx context.Context, n, perSecond int) string {
	const users = 500
	var tokens [users]string
	for i := range tokens {
		tokens[i] = a.token(pim.UserID(fmt.Sprint("flood-", i)))
	}
	var in atomic.Int64
	offered, took := a.tries(ctx, n, func(k int) {
		conn, m, err := a.hello(ctx, fmt.Sprint("203.0.113.", k%256), &wirepb.Hello{Token: tokens[k%users], Device: fmt.Sprint("phone-", k)})
		if err != nil {
			return
		}
		defer conn.Close()
		if _, ok := m.(*wirepb.Welcome); ok {
			in.Add(1)
		}
	})
	if most := float64(perSecond) * (10 + took.Seconds()); float64(in.Load()) > most {
		a.t.Errorf("%d logins of a network were let in, where its rate allows %.0f", in.Load(), most)
	}
	turned := a.metric("pim_refusals_total", `reason="network_rate"`) + a.metric("pim_refusals_total", `reason="address_rate"`)
	if turned < offered/10 {
		a.t.Errorf("of %d logins %d were let in, and %d are counted as refused", offered, in.Load(), turned)
	}
	return fmt.Sprintf("%d offered, %s; %d let in", offered, rate(offered, took), in.Load())
}

func (a *arena) groups(ctx context.Context, n, members, most int) string {
	defer a.enough()
	conn, m, err := a.hello(ctx, "", &wirepb.Hello{Token: a.token("mallory"), Device: "phone"})
	if err != nil || refused(m) != nil {
		a.t.Errorf("mallory is not let in: %v, %v", m, err)
		return ""
	}
	defer conn.Close()
	var created, turned int
	for k := range n {
		if ctx.Err() != nil {
			break
		}
		id := pim.NewClientMessageID(time.Now())
		create := &wirepb.PIMSendReq{ClientMessageId: id[:], LocalMs: time.Now().UnixMilli(), Attempt: 1, Kind: wirepb.EntryKind_ENTRY_KIND_CREATE}
		for i := range members - 1 {
			create.Members = append(create.Members, fmt.Sprintf("victim-%d-%d", k, i))
		}
		answer, err := a.asks(conn, create)
		if err != nil {
			a.t.Errorf("group %d: %v", k, err)
			return ""
		}
		switch e := refused(answer); {
		case e == nil:
			created++
		case wire.ErrorOf(e).Kind != pim.KindOverloaded || e.RetryAfterMs == 0:
			a.t.Errorf("group %d: %v", k, e)
		default:
			turned++
		}
	}
	if created > most || turned == 0 {
		a.t.Errorf("%d groups were created, and %d refused; at most %d may be", created, turned, most)
	}
	return fmt.Sprintf("%d groups of %d asked for; %d created, the others refused with a time", created+turned, members, created)
}

// asks sends one request and returns its answer.
func (a *arena) asks(conn *session, m *wirepb.PIMSendReq) (wire.Message, error) {
	if err := conn.Write([][]byte{wire.Append(nil, m)}); err != nil {
		return nil, err
	}
	for {
		answer, err := read(conn)
		if err != nil {
			return nil, err
		}
		switch answer := answer.(type) {
		case *wirepb.PIMSendAck:
			if bytes.Equal(answer.ClientMessageId, m.ClientMessageId) {
				return answer, nil
			}
		case *wirepb.PIMError:
			return answer, nil
		}
	}
}

func (a *arena) insists(ctx context.Context, n int) string {
	token := a.token("mallory")
	var in, turned atomic.Int64
	came, took := a.tries(ctx, n, func(int) {
		conn, m, err := a.hello(ctx, "", &wirepb.Hello{Token: token, Device: "phone"})
		if err != nil {
			return
		}
		defer conn.Close()
		switch e := refused(m); {
		case e == nil:
			in.Add(1)
		case wire.ErrorOf(e).Kind != pim.KindOverloaded || e.RetryAfterMs == 0:
			a.t.Errorf("mallory is told %v", e)
		default:
			turned.Add(1)
		}
	})
	if most := 5 * (20 + took.Seconds()); float64(in.Load()) > most { // of a device
		a.t.Errorf("%d logins of a device were let in, where its rate allows %.0f", in.Load(), most)
	}
	if turned.Load() == 0 {
		a.t.Error("no login was refused")
	}
	return fmt.Sprintf("came %d times, %s; let in %d times, told %d times when to come back", came, rate(came, took), in.Load(), turned.Load())
}

func (a *arena) badLeases(ctx context.Context, n int) string {
	token := a.token("mallory")
	var leases []string
	for _, list := range a.bad() {
		leases = append(leases, list...)
	}
	tries, took := a.tries(ctx, n, func(k int) {
		conn, m, err := a.hello(ctx, "", &wirepb.Hello{Token: token, Device: "phone", Lease: leases[k%len(leases)]})
		if err != nil {
			return
		}
		defer conn.Close()
		if e := refused(m); e == nil || wire.ErrorOf(e).Kind != pim.KindForbidden || e.RetryAfterMs < 1000 {
			a.t.Errorf("with the lease %q mallory is told %v", leases[k%len(leases)], m)
		}
	})
	for reason := range a.bad() {
		if a.metric("pim_lease_refusals_total", fmt.Sprintf("reason=%q", reason)) == 0 {
			a.t.Errorf("no lease is counted as %s", reason)
		}
	}
	return fmt.Sprintf("%d attempts, %s; none let in", tries, rate(tries, took))
}

// lease returns a lease that an LBS of this system signs.
func (a *arena) lease(user pim.UserID, expires time.Duration, gateways ...string) string {
	now := time.Now()
	lease, err := a.signer.IssueLease(lbs.Lease{User: user, Gateways: gateways, Expires: now.Add(expires)}, now.Add(min(expires, 0)))
	if err != nil {
		a.t.Error(err)
	}
	return lease
}

// bad returns leases that are good for nothing for mallory at the node one, by the reason in metrics.
func (a *arena) bad() map[string][]string {
	other, err := lbs.NewSigner(bytes.Repeat([]byte("guess"), 8))
	if err != nil {
		a.t.Error(err)
		return nil
	}
	guessed, err := other.IssueLease(lbs.Lease{User: "mallory", Gateways: []string{"one"}, Expires: time.Now().Add(time.Hour)}, time.Now())
	if err != nil {
		a.t.Error(err)
	}
	good := a.lease("mallory", 10*time.Second, "one")
	_, rest, _ := strings.Cut(good, ".")
	return map[string][]string{
		"missing": {""},
		"forged":  {guessed, good + "x", "eyJhbGciOiJub25lIiwidHlwIjoicGltLWxlYXNlK2p3dCJ9" + "." + rest},
		"expired": {a.lease("mallory", -time.Hour, "one")},
		"foreign": {a.lease("alice", 10*time.Second, "one"), a.lease("mallory", 10*time.Second, "two", "three")},
	}
}
