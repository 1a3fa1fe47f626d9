package server

import "github.com/pim-im/pim"

// share is how the file descriptors that a process may have are shared out. They are
// so that connections are refused before the store lacks one.
type share struct {
	connections int // of clients, at a time
	store       int // that the store keeps open
}

const (
	storeFiles      = 800 // that the store keeps open where there are enough
	leastStoreFiles = 128
	// otherFiles are what the store opens besides, for a write-ahead log or a
	// compaction, pages, listeners, and what the runtime needs.
	otherFiles       = 136 + sparePages
	leastConnections = 32
)

// shareOut shares out limit file descriptors for up to most connections. The runtime
// has raised the soft limit to the hard one, which is limit. It fails with KindInvalid
// if there are too few for any node.
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

// fitFiles finds out how many connections and files of the store fit the process's
// limit of open files, and says so if that is fewer than the settings ask for.
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

// full reports whether the node has more connections than there are files for:
// WebSocket, TCP and HTTP together. A node of which the first two have filled
// max-connections still has sparePages for health checks.
func (s *Server) full() bool {
	return s.web.Load()+s.gateway.Open() > int64(s.files.connections+sparePages)
}
