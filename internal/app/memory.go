package app

import "os"

// headroomBytes is how much more garbage than the server's own memory may
// gather before it is collected. The server lives in some 2 MB, so that the
// collector by itself would run after each 4 MB, that is every thousand
// requests.
const headroomBytes = 4 << 20

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
