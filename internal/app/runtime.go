package app

import (
	"os"
	"runtime"
)

// moreProcs is how many threads may run Go code beyond the cores that there
// are. Writers of the audit log and of SQLite wait for the disk many times a
// second, lose their place in the scheduler each time, and queue behind
// requests to get one back while new keys wait for them.
const moreProcs = 2

// addProcs makes them available until restore is called. It changes
// nothing when the operator set GOMAXPROCS.
func addProcs() (restore func()) {
	if os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(before + moreProcs)
	return func() { runtime.GOMAXPROCS(before) }
}

// headroomBytes is how much more garbage than the server's own memory may
// gather before it is collected. The server lives in some 2 MB, so that the
// collector by itself would run after each 4 MB, that is every thousand
// requests.
const headroomBytes = 5 << 20

// gcHeadroom returns memory that the garbage collector counts as in use and
// nobody ever touches, so that it costs addresses and not pages. A larger GOGC
// would do as much for an idle server, but would multiply a full cache as well,
// and a memory limit would make the collector run without end once the server
// needs more than it allows. Nothing is returned to an operator who set either.
func gcHeadroom() []byte {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		if os.Getenv(name) != "" {
			return nil
		}
	}
	return make([]byte, headroomBytes)
}
