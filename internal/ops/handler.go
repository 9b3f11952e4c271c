package ops

import (
	"net/http"
	"net/http/pprof"
)

// NewMux returns the surface of the admin listener: /livez, /readyz, /metrics
// and, with profiles, /debug/pprof/. More can be mounted on it.
func NewMux(h *Health, metrics http.Handler, profiles bool) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", Live)
	mux.HandleFunc("/readyz", h.Ready)
	mux.Handle("GET /metrics", metrics)
	if profiles {
		mux.HandleFunc("GET /debug/pprof/", withoutValues(pprof.Index))
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// withoutValues refuses the one form of a profile that shows the arguments of
// functions, which may be keys: goroutines with debug=2.
func withoutValues(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if d := r.FormValue("debug"); d != "" && d != "0" && d != "1" {
			say(w, r, http.StatusForbidden, "only debug=0 and debug=1: stacks with arguments may show keys\n")
			return
		}
		next(w, r)
	}
}
