package metrics

import (
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

// goMetrics are what dashboards for Go programs ask for: each is the sum of
// metrics of the runtime.
var goMetrics = [...]struct {
	name, help, kind string
	of               []string
}{
	{"go_goroutines", "Number of goroutines that currently exist.", typeGauge, []string{"/sched/goroutines:goroutines"}},
	{"go_threads", "Number of OS threads created.", typeGauge, []string{"/sched/threads/total:threads"}},
	{"go_sched_gomaxprocs_threads", "The limit of threads that run Go code at a time.", typeGauge, []string{"/sched/gomaxprocs:threads"}},
	{"go_gc_gogc_percent", "Heap size target percentage, set by GOGC.", typeGauge, []string{"/gc/gogc:percent"}},
	{"go_gc_gomemlimit_bytes", "Memory limit of the runtime, set by GOMEMLIMIT.", typeGauge, []string{"/gc/gomemlimit:bytes"}},
	{"go_memstats_alloc_bytes", "Bytes of objects in the heap.", typeGauge, []string{"/memory/classes/heap/objects:bytes"}},
	{"go_memstats_alloc_bytes_total", "Bytes allocated in the heap until now, released ones included.", typeCounter, []string{"/gc/heap/allocs:bytes"}},
	{"go_memstats_mallocs_total", "Objects allocated in the heap until now, live and gone.", typeCounter, []string{"/gc/heap/allocs:objects", "/gc/heap/tiny/allocs:objects"}},
	{"go_memstats_frees_total", "Objects of the heap that were freed.", typeCounter, []string{"/gc/heap/frees:objects", "/gc/heap/tiny/allocs:objects"}},
	{"go_memstats_heap_alloc_bytes", "Bytes of objects in the heap, as go_memstats_alloc_bytes.", typeGauge, []string{"/memory/classes/heap/objects:bytes"}},
	{"go_memstats_heap_inuse_bytes", "Bytes of the heap in spans that are in use.", typeGauge, []string{"/memory/classes/heap/objects:bytes", "/memory/classes/heap/unused:bytes"}},
	{"go_memstats_heap_idle_bytes", "Bytes of the heap that wait to be used.", typeGauge, []string{"/memory/classes/heap/free:bytes", "/memory/classes/heap/released:bytes"}},
	{"go_memstats_heap_released_bytes", "Bytes of the heap that were given back to the system.", typeGauge, []string{"/memory/classes/heap/released:bytes"}},
	{"go_memstats_heap_sys_bytes", "Bytes of the heap obtained from the system.", typeGauge, []string{"/memory/classes/heap/objects:bytes",
		"/memory/classes/heap/unused:bytes", "/memory/classes/heap/free:bytes", "/memory/classes/heap/released:bytes"}},
	{"go_memstats_heap_objects", "Objects in the heap.", typeGauge, []string{"/gc/heap/objects:objects"}},
	{"go_memstats_next_gc_bytes", "Bytes of the heap at which the next garbage collection takes place.", typeGauge, []string{"/gc/heap/goal:bytes"}},
	{"go_memstats_stack_inuse_bytes", "Bytes used by stacks.", typeGauge, []string{"/memory/classes/heap/stacks:bytes"}},
	{"go_memstats_sys_bytes", "Bytes obtained from the system.", typeGauge, []string{"/memory/classes/total:bytes"}},
}

// collectRuntime tells of Go's runtime; it does not stop the world.
func collectRuntime(p *page) {
	p.family("go_info", "Information about the Go environment.", typeGauge).add(1, "version", runtime.Version())
	for _, m := range goMetrics {
		var sum float64
		samples := make([]metrics.Sample, len(m.of))
		for i, name := range m.of {
			samples[i].Name = name
		}
		metrics.Read(samples)
		for _, s := range samples {
			if s.Value.Kind() == metrics.KindUint64 {
				sum += float64(s.Value.Uint64())
			}
		}
		p.family(m.name, m.help, m.kind).add(sum)
	}
	gc := debug.GCStats{PauseQuantiles: make([]time.Duration, 5)}
	debug.ReadGCStats(&gc)
	pauses := p.family("go_gc_duration_seconds", "Pauses of garbage collection.", typeSummary)
	for i, quantile := range []string{"0", "0.25", "0.5", "0.75", "1"} {
		pauses.add(gc.PauseQuantiles[i].Seconds(), "quantile", quantile)
	}
	pauses.sample("_sum", "", gc.PauseTotal.Seconds())
	pauses.sample("_count", "", float64(gc.NumGC))
}

// collectProcess tells of the process what Linux does; on other systems, and
// in a container without /proc, the metrics are missing.
func collectProcess(p *page) {
	if s, ok := readStat("/proc/self/stat", "/proc/stat"); ok {
		p.family("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", typeCounter).add(s.cpu)
		p.family("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", typeGauge).add(s.started)
		p.family("process_virtual_memory_bytes", "Virtual memory size in bytes.", typeGauge).add(s.virtual)
		p.family("process_resident_memory_bytes", "Resident memory size in bytes.", typeGauge).add(s.resident)
	}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		p.family("process_open_fds", "Number of open file descriptors.", typeGauge).add(float64(len(fds) - 1)) // less the one that reads
	}
	if limit, ok := readField("/proc/self/limits", "Max open files"); ok {
		p.family("process_max_fds", "Maximum number of open file descriptors.", typeGauge).add(limit)
	}
}

// stat is what /proc/self/stat says, in seconds, seconds of Unix time, and
// bytes.
type stat struct{ cpu, started, virtual, resident float64 }

func readStat(self, system string) (s stat, ok bool) {
	text, err := os.ReadFile(self)
	if err != nil {
		return s, false
	}
	boot, ok := readField(system, "btime")
	if !ok {
		return s, false
	}
	// The name of the program, the second field, may hold anything.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	const first = 3 // number of fields[0] in proc_pid_stat(5)
	if len(fields) <= 24-first {
		return s, false
	}
	field := func(n int) float64 {
		v, err := strconv.ParseFloat(string(fields[n-first]), 64)
		ok = ok && err == nil
		return v
	}
	const ticks = 100 // in a second, for programs on every architecture of Linux
	s.cpu = (field(14) + field(15)) / ticks
	s.started = boot + field(22)/ticks
	s.virtual = field(23)
	s.resident = field(24) * float64(os.Getpagesize())
	return s, ok
}

// readField returns the number after a name that begins a line.
func readField(file, name string) (float64, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name+" "); found {
			if fields := strings.Fields(rest); len(fields) > 0 {
				v, err := strconv.ParseFloat(fields[0], 64) // "unlimited" is none
				return v, err == nil
			}
		}
	}
	return 0, false
}
