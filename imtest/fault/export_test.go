package fault

// Taken returns how many bytes the proxy has read of what goes up, or down: for
// them it is settled when they arrive.
func (p *Proxy) Taken(up bool) (n int) {
	p.each(func(c *conn) {
		w := c.pipe(up)
		w.mu.Lock()
		defer w.mu.Unlock()
		n += w.taken
	})
	return n
}

// Doomed reports whether nothing more goes up, or down, on any connection.
func (p *Proxy) Doomed(up bool) bool {
	doomed := true
	p.each(func(c *conn) { doomed = doomed && c.pipe(up).isDoomed() })
	return doomed
}
