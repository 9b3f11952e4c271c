package metrics

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Types of metrics, as the text format names them.
const (
	typeCounter   = "counter"
	typeGauge     = "gauge"
	typeHistogram = "histogram"
	typeSummary   = "summary"
)

// page is one answer in the making: whoever has metrics adds samples to it.
type page struct {
	families map[string]*family // by name
}

// family are the samples of one name.
type family struct {
	name, help, kind string
	samples          []byte
}

// family returns the family of that name, which it adds if need be.
func (p *page) family(name, help, kind string) *family {
	f := p.families[name]
	if f == nil {
		f = &family{name: name, help: help, kind: kind}
		p.families[name] = f
	}
	return f
}

// text is the page in version 0.0.4 of Prometheus' text format, sorted by
// names of families.
func (p *page) text() (text []byte) {
	help := strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	for _, name := range slices.Sorted(maps.Keys(p.families)) {
		f := p.families[name]
		if len(f.samples) == 0 {
			continue
		}
		text = append(text, "# HELP "+name+" "+help.Replace(f.help)+"\n# TYPE "+name+" "+f.kind+"\n"...)
		text = append(text, f.samples...)
	}
	return text
}

// add adds a sample; labels are names, which are sorted, and values in turn.
func (f *family) add(value float64, labels ...string) {
	pairs := make([]string, 0, len(labels)/2)
	for l := range slices.Chunk(labels, 2) {
		pairs = append(pairs, pair(l[0], l[1]))
	}
	f.sample("", strings.Join(pairs, ","), value)
}

// sample adds a sample to whose name a suffix is added; labels are as written.
func (f *family) sample(suffix, labels string, value float64) {
	f.samples = append(f.samples, f.name+suffix...)
	if labels != "" {
		f.samples = append(f.samples, "{"+labels+"}"...)
	}
	f.samples = append(f.samples, ' ')
	f.samples = strconv.AppendFloat(f.samples, value, 'g', -1, 64) // infinite is +Inf, as the format has it
	f.samples = append(f.samples, '\n')
}

// pair is a label as written.
func pair(name, value string) string {
	value = strings.ToValidUTF8(value, "\uFFFD")
	return name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(value) + `"`
}

// vec are metrics of type M that have a name in common and are told apart by
// the values of labels.
type vec[M any] struct {
	name, help, kind string
	labels           []string
	write            func(m *M, f *family, labels string)

	mu     sync.Mutex
	series map[string]*M // by labels as written
}

// newVec makes the metrics of a name and has them on every page.
func newVec[M any](m *Metrics, name, help, kind string, labels []string, write func(*M, *family, string)) *vec[M] {
	v := &vec[M]{name: namespace + "_" + name, help: help, kind: kind, labels: labels, write: write, series: make(map[string]*M)}
	m.source(v.collect)
	return v
}

func (m *Metrics) counter(name, help string, labels ...string) *vec[counter] {
	return newVec(m, name, help, typeCounter, labels, (*counter).write)
}

func (m *Metrics) gauge(name, help string, labels ...string) *vec[gauge] {
	return newVec(m, name, help, typeGauge, labels, (*gauge).write)
}

func (m *Metrics) latency(name, help string, labels ...string) *vec[histogram] {
	return newVec(m, name, help, typeHistogram, labels, (*histogram).write)
}

// with returns the metric with the values of labels, in the order of their
// names in v, and makes it if need be. Keep it where it is counted often.
func (v *vec[M]) with(values ...string) *M {
	pairs := make([]string, len(v.labels))
	for i, name := range v.labels {
		pairs[i] = pair(name, values[i])
	}
	slices.Sort(pairs)
	labels := strings.Join(pairs, ",")
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.series[labels]
	if s == nil {
		s = new(M)
		v.series[labels] = s
	}
	return s
}

func (v *vec[M]) collect(p *page) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f := p.family(v.name, v.help, v.kind)
	for _, labels := range slices.Sorted(maps.Keys(v.series)) {
		v.write(v.series[labels], f, labels)
	}
}

// counter only grows.
type counter struct{ n atomic.Uint64 }

func (c *counter) inc() { c.n.Add(1) }

func (c *counter) write(f *family, labels string) { f.sample("", labels, float64(c.n.Load())) }

// gauge goes up and down.
type gauge struct{ bits atomic.Uint64 }

func (g *gauge) set(v float64) { g.bits.Store(math.Float64bits(v)) }

func (g *gauge) write(f *family, labels string) {
	f.sample("", labels, math.Float64frombits(g.bits.Load()))
}

// bounds are the upper bounds of the buckets of all latencies: known keys take
// tens of microseconds, a sync to disk milliseconds, and an encryptor gives up
// after seconds.
var bounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 20 * time.Second,
}

// histogram counts latencies by bucket; the last is of those beyond all bounds.
type histogram struct {
	buckets [len(bounds) + 1]atomic.Uint64
	sum     atomic.Int64 // nanoseconds, which last for 292 years
}

func (h *histogram) observe(took time.Duration) {
	i := 0
	for i < len(bounds) && took > bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(took))
}

// write takes the count from the buckets, so that it is never another than
// theirs while requests go on.
func (h *histogram) write(f *family, labels string) {
	sep := ","
	if labels == "" {
		sep = ""
	}
	count := 0.0
	for i := range h.buckets {
		le := math.Inf(1)
		if i < len(bounds) {
			le = bounds[i].Seconds()
		}
		count += float64(h.buckets[i].Load())
		f.sample("_bucket", labels+sep+`le="`+strconv.FormatFloat(le, 'g', -1, 64)+`"`, count)
	}
	f.sample("_sum", labels, time.Duration(h.sum.Load()).Seconds())
	f.sample("_count", labels, count)
}
