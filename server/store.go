package server

import (
	"path/filepath"

	"github.com/pim-im/pim/store/pebble"
)

// openStore opens the embedded store, unless the caller brought one.
func (s *Server) openStore(o Options) error {
	if o.Store != nil {
		s.engine, s.health = o.Store, func() error { return nil }
		if h, ok := o.Store.(interface{ Health() error }); ok {
			s.health = h.Health
		}
		return nil
	}
	st, err := pebble.Open(filepath.Join(s.config.Data, "store"), pebble.Options{Logger: s.log, Registerer: s.metrics})
	if err != nil {
		return err
	}
	s.engine, s.health = st, st.Health
	return nil
}
