package server

import (
	"context"
	"path/filepath"

	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// openStore opens the embedded store, unless the caller brought one.
func (s *Server) openStore(o Options) error {
	if o.Store != nil {
		s.engine = o.Store
		return nil
	}
	if err := s.closeToOthers(); err != nil {
		return err
	}
	st, err := pebble.Open(s.config.storePath(), pebble.Options{Logger: s.log, Registerer: s.metrics, Mono: o.Clock.Mono, OpenFiles: s.files.store})
	if err != nil {
		return err
	}
	s.engine = st
	return nil
}

// storePath returns where the embedded store is.
func (c *Config) storePath() string { return filepath.Join(c.Data, "store") }

// identify reads the store's identity; a store without one gets one. If that fails, as for
// the store of an earlier version on a full disk, the server serves all the same. Devices
// then go by the other signs of a store that was put back from a backup.
func (s *Server) identify() {
	var err error
	if s.identity, err = store.Identity(context.Background(), s.engine); err != nil {
		s.log.Warn("the store has no identity to tell devices; it gets one at the next start", "err", err)
	}
}
