package auth

// Throttled is the number of sources and credentials whose failures are
// remembered.
func (a *Authenticator) Throttled() int {
	a.throttle.mu.Lock()
	defer a.throttle.mu.Unlock()
	return len(a.throttle.forget)
}
