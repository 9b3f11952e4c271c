package auth

// Throttled is the larger number of sources and of names whose failures are
// remembered.
func (a *Authenticator) Throttled() int {
	a.throttle.mu.Lock()
	defer a.throttle.mu.Unlock()
	return max(len(a.throttle.sources), len(a.throttle.claims))
}

func (a *Authenticator) nonces() *nonces {
	for _, m := range a.methods {
		if d, ok := m.(*digestAuth); ok {
			return d.nonces
		}
	}
	panic("no digest")
}

// Nonces is the number of nonces that are remembered.
func (a *Authenticator) Nonces() int { return a.nonces().used.len() }

// ForgetNonces makes all nonces new.
func (a *Authenticator) ForgetNonces() {
	n := a.nonces()
	n.used = newRecent[nonce, *window](n.used.size, nil)
}

// ForgetSources forgets where failed attempts came from.
func (a *Authenticator) ForgetSources() {
	a.throttle.mu.Lock()
	defer a.throttle.mu.Unlock()
	clear(a.throttle.sources)
}
