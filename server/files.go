package server

import "github.com/pim-im/pim"

// share is how the file descriptors that the process may have are shared out, so that
// connections are refused before the store lacks one.
type share struct {
	connections int // of clients, open at a time
	store       int // files that the store keeps open
}

const (
	storeFiles      = 800 // files that the store keeps open if there are enough
	leastStoreFiles = 128
	// otherFiles are for what the store opens besides, such as a write-ahead log or a
	// compaction, for pages, listeners, and the runtime.
	otherFiles       = 136 + sparePages
	leastConnections = 32
)

// shareOut shares out limit file descriptors for up to most connections. limit is the hard
// limit, to which the Go runtime has raised the soft one. The error is of KindInvalid if
// there are too few for any node.
func shareOut(limit uint64, most int) (share, error) {
	if limit >= uint64(most)+storeFiles+otherFiles {
		return share{most, storeFiles}, nil
	}
	const least = leastStoreFiles + otherFiles + leastConnections
	if limit < least {
		return share{}, pim.Errorf(pim.KindInvalid,
			"this process may have %d open files, and a node needs %d: raise the limit (ulimit -n, or LimitNOFILE= of systemd)", limit, least)
	}
	n := int(limit) // below most
	store := min(max(n/4, leastStoreFiles), storeFiles)
	return share{min(n-store-otherFiles, most), store}, nil
}

// fitFiles finds out how many connections and files of the store fit the process's limit of
// open files. It logs a warning if that is fewer connections than the settings ask for.
func (s *Server) fitFiles() error {
	s.files = share{s.config.MaxConnections, storeFiles}
	limit, ok := openFiles()
	if !ok {
		return nil
	}
	var err error
	if s.files, err = shareOut(limit, s.config.MaxConnections); err != nil {
		return err
	}
	if s.files.connections < s.config.MaxConnections {
		s.log.Warn("the limit of open files allows fewer connections than max-connections: raise it, as by ulimit -n or LimitNOFILE= of systemd",
			"open_files", limit, "needed", s.config.MaxConnections+storeFiles+otherFiles,
			"connections", s.files.connections, "max_connections", s.config.MaxConnections)
	}
	return nil
}

// full reports whether the node has more connections than file descriptors for them:
// WebSocket, TCP and HTTP together. Even when WebSocket and TCP have filled
// max-connections, sparePages are left for health checks.
func (s *Server) full() bool {
	return s.web.Load()+s.gateway.Open() > int64(s.files.connections+sparePages)
}
