package load

import (
	"context"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// idler is a connected user who says nothing but a heartbeat now and then.
type idler struct {
	*link
	beatAfter time.Duration
	beats     uint64
}

// runIdle connects all users, holds the connections, and reports what each costs
// the server in memory, once they have settled.
func runIdle(ctx context.Context, cfg *Config) (Report, error) {
	m := cfg.meter()
	empty, err := m.read(ctx)
	if err != nil {
		return Report{}, err
	}
	users := make([]*idler, cfg.Users)
	defer func() {
		for _, u := range users {
			if u != nil {
				u.nc.Close()
			}
		}
	}()
	cfg.Log.Info("connecting", "users", cfg.Users)
	begun := time.Now()
	err = each(ctx, cfg.Users, cfg.Dialing, func(ctx context.Context, n int) (err error) {
		users[n], err = openIdle(ctx, cfg, n)
		return err
	})
	if err != nil {
		return Report{}, err
	}
	cfg.isUp()
	rep := Report{Workload: cfg.Workload, Users: cfg.Users, ConnectSeconds: time.Since(begun).Seconds()}
	err = holdIdle(ctx, cfg, &m, users, empty, &rep)
	return rep, err
}

// openIdle connects the n-th user, as a device does for which nothing is new.
func openIdle(ctx context.Context, cfg *Config, n int) (*idler, error) {
	l, welcome, err := connect(ctx, cfg, cfg.Server, cfg.user(n), device, 0)
	if err != nil {
		return nil, err
	}
	u := &idler{link: l, beatAfter: never}
	if err = l.send(&wirepb.PIMSyncReq{RequestId: 1}); err == nil {
		_, err = await[*wirepb.PIMSyncResp](l)
	}
	if err != nil {
		l.nc.Close()
		return nil, err
	}
	if ms := welcome.Limits.GetIdleMs(); ms > 0 {
		u.beatAfter = time.Duration(ms) * time.Millisecond / 2
	}
	return u, nil
}

func holdIdle(ctx context.Context, cfg *Config, m *meter, users []*idler, empty usage, rep *Report) error {
	ctx, fail := context.WithCancelCause(ctx)
	var work sync.WaitGroup
	defer func() {
		fail(context.Canceled)
		for _, u := range users {
			u.nc.Close()
		}
		work.Wait()
	}()
	for _, u := range users {
		work.Go(func() {
			if err := u.serve(u); err != nil && ctx.Err() == nil {
				fail(err)
			}
		})
	}
	work.Go(func() { beatAll(ctx, users, fail) })

	cfg.Log.Info("holding", "for", cfg.Duration)
	before, err := m.read(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	c := curve{meter: m, begun: start, empty: empty.rss, users: len(users)}
	work.Go(func() {
		if err := c.watch(ctx, cfg.Duration); err != nil && ctx.Err() == nil {
			fail(err)
		}
	})
	if err := cfg.hold(ctx, func() uint64 { return 0 }); err != nil {
		return err
	}
	after, err := m.read(ctx)
	if err != nil {
		return err
	}
	rep.Seconds = time.Since(start).Seconds()
	rep.ServerCPUTotal = after.cpu - before.cpu
	rep.ServerRSS = after.rss
	rep.BytesPerConnection = float64(after.rss-empty.rss) / float64(len(users))
	c.end(after.rss, rep)
	return nil
}

// beatAll has every connection send a heartbeat once in half the server's idle limit.
// The heartbeats of the users are spread over that time.
func beatAll(ctx context.Context, users []*idler, fail context.CancelCauseFunc) {
	every := users[0].beatAfter
	if every == never {
		return
	}
	for {
		for _, u := range users {
			if wait(ctx, every/time.Duration(len(users))) != nil {
				return
			}
			if err := u.beat(); err != nil {
				fail(err)
			}
		}
	}
}

// beat sends what the SDK's heartbeat consists of when there is nothing to
// acknowledge: a ping, a sync, which finds nothing new, and a sample of the clock.
func (u *idler) beat() error {
	u.beats++
	b := u.appendFrame(nil, &wirepb.PIMPing{Nonce: u.beats})
	b = u.appendFrame(b, &wirepb.PIMSyncReq{RequestId: u.beats + 1, Brief: true})
	b = u.appendFrame(b, &wirepb.PIMTimeReq{T1: int64(u.beats)})
	_, err := u.nc.Write(b)
	return broken(err)
}

// wake, frame and flush make an idler a handler that ignores every frame but PIMGoAway.
func (u *idler) wake()        {}
func (u *idler) flush() error { return nil }
func (u *idler) frame(f []byte) error {
	if wire.Type(f[0]) == wire.TypeGoAway {
		_, err := u.decode(ws.OpBinary, f)
		return err
	}
	return nil
}
