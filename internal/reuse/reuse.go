// Package reuse empties slices whose memory is to be filled again, by whoever
// does the same work over and over.
package reuse

// Slice returns s without its elements, to be appended to, in the same memory
// or, if that has room for more than most elements, in none: what an unusual
// piece of work needed is not kept for ever. The elements are cleared, so
// that nothing they point to is kept, and nobody who still has the slice
// takes what comes next for what was there.
func Slice[T any](s []T, most int) []T {
	clear(s)
	if cap(s) > most {
		return nil
	}
	return s[:0]
}

// Grow returns s, which is empty, with room for n elements.
func Grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, 0, n)
	}
	return s
}
