package telemetry

import (
	"context"
	"log/slog"
)

// LogHandler returns a handler of log records that adds the trace they belong
// to, and sends them to the collector as well unless out is nil.
func LogHandler(next slog.Handler, out *Exporter) slog.Handler {
	return &logHandler{next: next, out: out}
}

type logHandler struct {
	next   slog.Handler
	out    *Exporter
	group  string      // with a final dot, or empty
	common []Attribute // of [slog.Logger.With]
}

func (l *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return l.next.Enabled(ctx, level)
}

func (l *logHandler) Handle(ctx context.Context, r slog.Record) error {
	span := FromContext(ctx)
	if l.out != nil {
		attributes := append([]Attribute(nil), l.common...)
		r.Attrs(func(a slog.Attr) bool {
			attributes = flatten(attributes, l.group, a)
			return true
		})
		l.out.addLog(&r, span, attributes)
	}
	if span != nil {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", span.Trace.String()), slog.String("span_id", span.ID.String()))
	}
	return l.next.Handle(ctx, r)
}

func (l *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *l
	c.next = l.next.WithAttrs(attrs)
	c.common = append([]Attribute(nil), l.common...)
	for _, a := range attrs {
		c.common = flatten(c.common, l.group, a)
	}
	return &c
}

func (l *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return l
	}
	c := *l
	c.next, c.group = l.next.WithGroup(name), l.group+name+"."
	return &c
}

// flatten adds an attribute; those of groups get the group's name in front.
func flatten(to []Attribute, prefix string, a slog.Attr) []Attribute {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, member := range v.Group() {
			to = flatten(to, prefix, member)
		}
		return to
	case slog.KindInt64:
		return append(to, Attribute{prefix + a.Key, v.Int64()})
	case slog.KindBool:
		return append(to, Attribute{prefix + a.Key, v.Bool()})
	default:
		return append(to, Attribute{prefix + a.Key, v.String()})
	}
}
