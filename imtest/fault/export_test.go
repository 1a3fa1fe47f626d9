package fault

// Taken returns how many bytes the proxy has read of what goes up, or down. For these
// bytes it is settled when they arrive.
func (p *Proxy) Taken(up bool) (n int) {
	p.each(func(c *conn) {
		w := c.pipe(up)
		w.mu.Lock()
		defer w.mu.Unlock()
		n += w.taken
	})
	return n
}

// Doomed reports whether every connection is doomed in one direction, up or down:
// nothing more passes.
func (p *Proxy) Doomed(up bool) bool {
	doomed := true
	p.each(func(c *conn) { doomed = doomed && c.pipe(up).isDoomed() })
	return doomed
}
