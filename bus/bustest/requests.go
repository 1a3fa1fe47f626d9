package bustest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
)

// request asks a node, and waits for as long as it takes.
func request(from *listener, to string, k bus.Kind, body string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := from.Request(ctx, to, k, []byte(body))
	return string(answer), err
}

func testRequests(c *Cluster) error {
	nodes, err := c.three()
	if err != nil {
		return err
	}
	const each = 200
	errs := make(chan error, 2*each)
	var all sync.WaitGroup
	for i := range each {
		for _, from := range nodes[:2] {
			all.Go(func() {
				body := fmt.Sprint("question ", i)
				answer, err := request(from, "c", kindEcho, body)
				if want := from.Self() + " " + body; err == nil && answer != want {
					err = fmt.Errorf("%q is answered with %q", want, answer)
				}
				errs <- err
			})
		}
	}
	all.Wait()
	for range 2 * each {
		if err := <-errs; err != nil {
			return err
		}
	}
	return c.inPeace(nodes[:]...)
}

func testRequestErrors(c *Cluster) error {
	nodes, err := c.three()
	if err != nil {
		return err
	}
	a, b := nodes[0], nodes[1]
	_, err = request(a, "b", kindRefuse, "")
	var e *pim.Error
	if !errors.As(err, &e) || e.Kind != refused.Kind || e.Text != refused.Text || e.Op != refused.Op || e.RetryAfter != refused.RetryAfter {
		return fmt.Errorf("an error of the answering node came as %#v", err)
	}
	if _, err = request(a, "b", kindRefuse, "disk"); err == nil || !strings.Contains(err.Error(), "a plain error: disk") {
		return fmt.Errorf("a plain error came as %v", err)
	}
	if _, err = request(a, "b", kindUnheard, ""); pim.KindOf(err) != pim.KindUnsupported {
		return fmt.Errorf("a request of a kind that is not known: %v", err)
	}
	if _, err = request(a, "z", kindEcho, ""); pim.KindOf(err) != pim.KindUnavailable {
		return fmt.Errorf("a request to a node that is not there: %v", err)
	}
	if _, err = request(a, "a", kindEcho, ""); pim.KindOf(err) != pim.KindInvalid {
		return fmt.Errorf("a request to itself: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err = a.Request(ctx, "b", kindHang, nil); !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("a request whose time is up: %v", err)
	}
	if err := b.wait(c.soon, "the end of the context of an answer", func() bool { return b.given == 1 }); err != nil {
		return err
	}
	ctx, cancel = context.WithCancel(context.Background())
	stop := time.AfterFunc(200*time.Millisecond, cancel)
	defer stop.Stop()
	if _, err = a.Request(ctx, "b", kindHang, nil); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("a request that is given up: %v", err)
	}
	if err := b.wait(c.soon, "the end of the context of a second answer", func() bool { return b.given == 2 }); err != nil {
		return err
	}
	return c.inPeace(nodes[:]...)
}

func testRequestDying(c *Cluster) error {
	nodes, err := c.three()
	if err != nil {
		return err
	}
	asked := make(chan error, 2)
	for _, from := range nodes[:2] {
		go func() {
			_, err := request(from, "c", kindHang, "")
			asked <- err
		}()
	}
	time.Sleep(500 * time.Millisecond)
	begin := time.Now()
	c.Kill("c")
	for range 2 {
		if err := <-asked; pim.KindOf(err) != pim.KindUnavailable {
			return fmt.Errorf("a request to a node that dies: %v", err)
		}
	}
	if took := time.Since(begin); took > 2*c.soon {
		return fmt.Errorf("a request to a node that dies takes %s", took)
	}
	return c.inPeace(nodes[:2]...)
}

func testClosing(c *Cluster) error {
	nodes, err := c.three()
	if err != nil {
		return err
	}
	a, b := nodes[0], nodes[1]
	release := b.holdUp()
	defer release()
	if err := sendAll(a, "b", "held up"); err != nil {
		return err
	}
	asked := make(chan error, 1)
	go func() {
		_, err := request(b, "a", kindHang, "")
		asked <- err
	}()
	time.Sleep(500 * time.Millisecond)
	closed := make(chan struct{})
	go func() {
		b.Close()
		close(closed)
	}()
	if err := a.sees(c.soon, "a", "c"); err != nil {
		return fmt.Errorf("while a Handler is at work: %w", err)
	}
	if err := <-asked; pim.KindOf(err) != pim.KindUnavailable {
		return fmt.Errorf("a request of a node that closes: %v", err)
	}
	select {
	case <-closed:
		return errors.New("Close did not wait for the Handler")
	default:
	}
	release()
	select {
	case <-closed:
	case <-time.After(patience):
		return errors.New("Close does not end")
	}
	if err := b.Send("a", kindWord, nil); pim.KindOf(err) != pim.KindUnavailable {
		return fmt.Errorf("a message of a node that is closed: %v", err)
	}
	if _, err := request(b, "a", kindEcho, ""); pim.KindOf(err) != pim.KindUnavailable {
		return fmt.Errorf("a request of a node that is closed: %v", err)
	}
	b.Close()
	return c.inPeace(a, nodes[2])
}
