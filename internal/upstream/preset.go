package upstream

import (
	"slices"
	"strings"
	"time"
)

// The vendors that have a preset.
const (
	Axinom   = "axinom"   // Axinom DRM Key Service
	Insys    = "insys"    // Insys Cloud DRM, drm.cloud, Cloud Video Kit
	PallyCon = "pallycon" // PallyCon, DoveRunner by its new name
	KeyOS    = "keyos"    // BuyDRM KeyOS
	VUDRM    = "vudrm"    // JW Player, Vualto
	EZDRM    = "ezdrm"
	Irdeto   = "irdeto"
	Generic  = "generic" // any key provider that keeps to SPEKE
)

// Vendors lists all presets by name.
func Vendors() []string {
	return []string{Axinom, Insys, PallyCon, KeyOS, VUDRM, EZDRM, Irdeto, Generic}
}

// Defaults for all upstreams.
const (
	DefaultTimeout     = 5 * time.Second
	DefaultRetries     = 1
	DefaultConcurrency = 64
	DefaultFailures    = 5
	DefaultPause       = 10 * time.Second
)

// Versions of an upstream that speaks several.
const (
	asReceived = "as-received"
	upTo20     = "up-to-2.0"     // 1.0 and 2.0; no vendor documents 2.1
	ifSealed20 = "2.0-if-sealed" // 2.0 for encrypted content keys, 1.0 for clear ones
)

// filled returns the settings with what the preset and the defaults say of
// members that are absent.
func (s Settings) filled() Settings {
	s.preset()
	def(&s.Name, s.Vendor)
	def(&s.Method, "POST")
	def(&s.ContentType, "application/xml")
	def(&s.SPEKE, asReceived)
	def(&s.KIDPolicy, KIDKeep)
	def(&s.CEK, CEKPass)
	def(&s.Periods, PeriodsPass)
	def(&s.URLV2, s.URL)
	def(&s.Timeout, Duration(DefaultTimeout))
	def(&s.Concurrency, DefaultConcurrency)
	def(&s.Breaker.Failures, DefaultFailures)
	def(&s.Breaker.Pause, Duration(DefaultPause))
	if s.Retries == nil {
		s.Retries = new(int)
		*s.Retries = DefaultRetries
	}
	if s.Fixups == nil {
		s.Fixups = new(bool)
		*s.Fixups = true
	}
	if s.FanOut == nil {
		s.FanOut = new(bool)
		*s.FanOut = strings.Contains(s.URL, "{kid}")
	}
	if s.Auth.OAuth != nil {
		o := *s.Auth.OAuth
		def(&o.Params, "body")
		def(&o.Client, "basic")
		s.Auth.OAuth = &o
	}
	if s.Auth.SigV4 != nil {
		v := *s.Auth.SigV4
		def(&v.Service, "execute-api")
		s.Auth.SigV4 = &v
	}
	s.Fallback = slices.Clone(s.Fallback)
	for i := range s.Fallback {
		f := &s.Fallback[i]
		if f.SameKeys {
			f.inherit(&s)
		}
		*f = f.filled()
	}
	return s
}

// inherit takes over what is the same for the same key service at another
// place, the name above all: the keys are the same.
func (s *Settings) inherit(from *Settings) {
	own := *s
	*s = *from
	s.Fallback, s.Heartbeat, s.SameKeys, s.URL, s.URLV2 = nil, own.Heartbeat, true, own.URL, own.URLV2
	if !own.Auth.IsZero() {
		s.Auth = own.Auth
	}
	if own.Timeout != 0 {
		s.Timeout = own.Timeout
	}
}

func def[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// preset fills in what a vendor's public documents say.
func (s *Settings) preset() {
	switch s.Vendor {
	case Generic:
	case KeyOS: // its 2.0 knows callers by their certificate only
		def(&s.SPEKE, ifSealed20)
	default:
		def(&s.SPEKE, upTo20)
		// None of them documents that it encrypts content keys; this way
		// encryptors get them encrypted whether it does or not.
		def(&s.CEK, CEKTerminate)
	}
	switch s.Vendor {
	case Axinom:
		// The service has one address for each generation; both take several
		// keys and derive each key from its key ID.
		def(&s.URLV2, replaceEnd(s.URL, "/Speke", "/SpekeV2"))
		if s.KIDPolicy == KIDOverride {
			def(&s.KIDOverride, "true")
			s.addQuery("overrideKeyIds", s.KIDOverride)
		}
	case Insys:
		def(&s.URLV2, replaceEnd(s.URL, "/speke", "/speke2"))
		def(&s.KIDPolicy, KIDAny) // not documented; it may
		if s.Auth.OAuth != nil && s.Auth.OAuth.Params == "" {
			o := *s.Auth.OAuth
			o.Params = "query"
			s.Auth.OAuth = &o
		}
	case PallyCon:
		if s.Auth.Token != "" && !strings.Contains(s.URL, "{token}") {
			def(&s.URLV2, origin(s.URL)+"/v2/cpix/pallycon/getKey/{token}")
			s.URL = addParameter(s.URL, "enc-token={token}")
		}
		def(&s.KIDPolicy, KIDAny)    // it always does
		def(&s.Periods, PeriodsPass) // its CPIX address rotates, its SPEKE address does not
		if s.Heartbeat.URL == "" {
			s.Heartbeat.URL = origin(s.URL) + "/cpix/getKey/heartbeat"
			def(&s.Heartbeat.Body, "SUCCESS")
		}
	case KeyOS:
		def(&s.URLV2, origin(s.URL)+"/v2"+path(s.URL))
		if s.KIDPolicy == KIDOverride {
			def(&s.KIDOverride, "uuidv5")
			s.addHeader("kid-override", s.KIDOverride)
		}
	case VUDRM:
	case EZDRM:
		def(&s.Method, "GET")
		s.addQuery("k", "{kid}")
		s.addQuery("c", "{contentId}")
		if s.FanOut == nil {
			s.FanOut = new(bool)
			*s.FanOut = true
		}
	case Irdeto:
		if !strings.Contains(s.URL, "{contentId}") && strings.HasSuffix(s.URL, "/contents") {
			s.URL += "/{contentId}/copyProtectionData"
		}
	}
}

func (s *Settings) addQuery(name, value string) {
	if _, ok := s.Query[name]; !ok {
		s.Query = withValue(s.Query, name, value)
	}
}

func (s *Settings) addHeader(name, value string) {
	for have := range s.Headers {
		if strings.EqualFold(have, name) {
			return
		}
	}
	s.Headers = withValue(s.Headers, name, value)
}

func withValue(m map[string]Secret, name, value string) map[string]Secret {
	out := map[string]Secret{name: Secret(value)}
	for k, v := range m {
		out[k] = v
	}
	return out
}
