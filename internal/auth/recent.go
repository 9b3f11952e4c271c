package auth

// recent is a map of bounded size. It has two generations: what is used moves
// into the young one, and when that is full the old one is dropped and the
// young one becomes old. At most 2*size entries are kept, and an entry that is
// used again within size others stays. It is not safe for concurrent use.
type recent[K comparable, V any] struct {
	size       int
	dropped    func(V) // told of what is dropped; may be nil
	young, old map[K]V
}

func newRecent[K comparable, V any](size int, dropped func(V)) *recent[K, V] {
	return &recent[K, V]{size: size, dropped: dropped, young: make(map[K]V)}
}

func (r *recent[K, V]) get(key K) (V, bool) {
	v, ok := r.young[key]
	if ok {
		return v, true
	}
	if v, ok = r.old[key]; ok {
		r.put(key, v)
	}
	return v, ok
}

func (r *recent[K, V]) put(key K, v V) {
	delete(r.old, key)
	if _, ok := r.young[key]; !ok && len(r.young) >= r.size {
		if r.dropped != nil {
			for _, v := range r.old {
				r.dropped(v)
			}
		}
		r.old, r.young = r.young, make(map[K]V)
	}
	r.young[key] = v
}

func (r *recent[K, V]) len() int { return len(r.young) + len(r.old) }
