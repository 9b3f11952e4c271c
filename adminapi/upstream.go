package adminapi

import "time"

// Hidden stands in the place of a secret that is set and not shown. Sent back
// in a change it keeps that secret.
const Hidden Secret = "(secret)"

// Upstream is a key service whose keys a tenant's encryptors are answered.
// Secrets are shown as [Hidden].
type Upstream struct {
	Name        string            `json:"name,omitzero" doc:"For records and metrics; the vendor by default. Content keys belong to it for ever."`
	Vendor      string            `json:"vendor" doc:"A preset, such as axinom or generic."`
	URL         string            `json:"url" doc:"May have {contentId}, {kid}, {tenant} and {token}. It is shown: tokens belong into auth, query or headers."`
	URLV2       string            `json:"url_v2,omitzero" doc:"For SPEKE 2.0 and 2.1, if that is another one."`
	Method      string            `json:"method,omitzero" doc:"POST or GET."`
	ContentType string            `json:"content_type,omitzero"`
	Headers     map[string]Secret `json:"headers,omitempty"`
	Query       map[string]Secret `json:"query,omitempty"`
	Tenant      string            `json:"tenant,omitzero" doc:"What {tenant} stands for."`
	Auth        UpstreamAuth      `json:"auth,omitzero"`

	SPEKE       string            `json:"speke,omitzero"`
	FanOut      *bool             `json:"fan_out,omitempty"`
	KIDPolicy   string            `json:"kid_policy,omitzero" doc:"keep, any or override."`
	KIDOverride string            `json:"kid_override,omitzero"`
	CEK         string            `json:"cek,omitzero" doc:"pass, terminate, re-encrypt or refuse."`
	Recipient   KeyPair           `json:"recipient,omitzero"`
	Periods     string            `json:"periods,omitzero" doc:"pass, pin or refuse."`
	Tracks      map[string]string `json:"tracks,omitempty"`
	Fixups      *bool             `json:"fixups,omitempty"`
	IV          string            `json:"iv,omitzero"`

	Timeout     string            `json:"timeout,omitzero" pattern:"^([0-9.]+(ns|us|ms|s|m|h))+$" doc:"Such as 5s, as all times here."`
	Retries     *int              `json:"retries,omitempty"`
	Concurrency int               `json:"concurrency,omitzero"`
	Hedge       string            `json:"hedge,omitzero" pattern:"^([0-9.]+(ns|us|ms|s|m|h))+$"`
	Breaker     UpstreamBreaker   `json:"breaker,omitzero"`
	Heartbeat   UpstreamHeartbeat `json:"heartbeat,omitzero"`
	Copy        bool              `json:"resilience_copy,omitzero"`
	Fallback    []Upstream        `json:"fallback,omitempty"`
	SameKeys    bool              `json:"same_keys,omitzero"`
}

// UpstreamAuth is what lets the server in.
type UpstreamAuth struct {
	Basic  *UpstreamBasic  `json:"basic,omitempty"`
	Bearer *UpstreamBearer `json:"bearer,omitempty"`
	OAuth  *UpstreamOAuth  `json:"oauth,omitempty"`
	Header *UpstreamValue  `json:"header,omitempty"`
	Query  *UpstreamValue  `json:"query,omitempty"`
	Token  Secret          `json:"token,omitzero"`
	SigV4  *UpstreamSigV4  `json:"sigv4,omitempty"`
	MTLS   KeyPair         `json:"mtls,omitzero"`
	CA     string          `json:"ca,omitzero" doc:"PEM certificates."`
}

// UpstreamBasic is a user name and password.
type UpstreamBasic struct {
	User     string `json:"user"`
	Password Secret `json:"password"`
}

// UpstreamBearer is a token that does not change.
type UpstreamBearer struct {
	Token Secret `json:"token"`
}

// UpstreamValue is a header or parameter with a secret in it.
type UpstreamValue struct {
	Name  string `json:"name"`
	Value Secret `json:"value"`
}

// UpstreamOAuth is OAuth 2.0 client credentials.
type UpstreamOAuth struct {
	TokenURL string `json:"token_url"`
	ID       string `json:"id"`
	Secret   Secret `json:"secret"`
	Scope    string `json:"scope,omitzero"`
	Params   string `json:"params,omitzero" doc:"body or query."`
	Client   string `json:"client,omitzero" doc:"basic or params."`
}

// UpstreamSigV4 is an AWS access key.
type UpstreamSigV4 struct {
	AccessKeyID     string `json:"access_key_id"`
	SecretAccessKey Secret `json:"secret_access_key"`
	SessionToken    Secret `json:"session_token,omitzero"`
	Region          string `json:"region"`
	Service         string `json:"service,omitzero"`
}

// KeyPair is a certificate and its private key, both PEM and not the names of
// files.
type KeyPair struct {
	Certificate string `json:"certificate,omitzero"`
	Key         Secret `json:"key,omitzero"`
}

// UpstreamBreaker stops asking an upstream that does not answer.
type UpstreamBreaker struct {
	Failures int    `json:"failures,omitzero"`
	Pause    string `json:"pause,omitzero" pattern:"^([0-9.]+(ns|us|ms|s|m|h))+$"`
}

// UpstreamHeartbeat asks now and then whether an upstream is there.
type UpstreamHeartbeat struct {
	URL   string `json:"url,omitzero"`
	Body  string `json:"body,omitzero"`
	Every string `json:"every,omitzero" pattern:"^([0-9.]+(ns|us|ms|s|m|h))+$"`
}

// Webhook is an address that is told of each new use of a content key.
type Webhook struct {
	Name         string `json:"name"`
	URL          string `json:"url"`
	Secret       Secret `json:"secret" doc:"whsec_ and the base64 of 24 to 64 random bytes; shown as (secret)."`
	FormerSecret Secret `json:"former_secret,omitempty"`
}

// UpstreamHealth is how one upstream of a tenant fares, as the server that
// answers sees it.
type UpstreamHealth struct {
	Tenant         string            `json:"tenant"`
	Upstream       string            `json:"upstream"`
	Vendor         string            `json:"vendor"`
	Origin         string            `json:"origin" doc:"Scheme and host."`
	Fallback       bool              `json:"fallback,omitzero"`
	State          string            `json:"state" doc:"Of its breaker: closed (all is well), open or half-open."`
	LastSuccess    time.Time         `json:"last_success,omitzero"`
	LastFailure    time.Time         `json:"last_failure,omitzero"`
	LastError      string            `json:"last_error,omitzero"`
	FailingSince   time.Time         `json:"failing_since,omitzero" doc:"When it began to fail; absent when all is well."`
	Answered       uint64            `json:"answered"`
	Retried        uint64            `json:"retried"`
	Hedged         uint64            `json:"hedged"`
	Copies         uint64            `json:"copies" doc:"Requests that were answered from the resilience copy."`
	Failed         map[string]uint64 `json:"failed,omitempty"`
	Fixes          map[string]uint64 `json:"fixes,omitempty"`
	LatencyMedian  time.Duration     `json:"latency_median_ns"`
	LatencyP95     time.Duration     `json:"latency_p95_ns"`
	Heartbeat      time.Time         `json:"heartbeat,omitzero"`
	HeartbeatError string            `json:"heartbeat_error,omitzero"`
}

// Exchange is what became of one key request that went upstream. It holds
// neither content keys nor credentials.
type Exchange struct {
	RequestID  string         `json:"request_id"`
	Time       time.Time      `json:"time"`
	Took       time.Duration  `json:"took_ns"`
	Tenant     string         `json:"tenant"`
	Profile    string         `json:"profile"`
	ContentID  string         `json:"content_id"`
	Scheme     string         `json:"scheme"`
	Encrypted  bool           `json:"encrypted,omitzero"`
	Keys       []ExchangeKey  `json:"keys"`
	Systems    []string       `json:"systems"`
	Request    string         `json:"request" doc:"The document, cut short."`
	Calls      []ExchangeCall `json:"calls"`
	AnsweredBy string         `json:"answered_by,omitzero"`
	CopyError  string         `json:"copy_error,omitzero"`
	Error      string         `json:"error,omitzero"`
}

// ExchangeKey is one content key of a request.
type ExchangeKey struct {
	Requested string   `json:"requested"`
	Answered  string   `json:"answered,omitzero"`
	Tracks    []string `json:"tracks,omitempty"`
	Periods   []string `json:"periods,omitempty"`
}

// ExchangeCall is what was asked of one upstream.
type ExchangeCall struct {
	Upstream string        `json:"upstream"`
	Origin   string        `json:"origin"`
	Time     time.Time     `json:"time"`
	Took     time.Duration `json:"took_ns"`
	Profile  string        `json:"profile,omitzero"`
	Requests int           `json:"requests,omitzero"`
	Verbatim bool          `json:"verbatim,omitzero"`
	Sent     string        `json:"sent,omitzero"`
	Relayed  bool          `json:"relayed,omitzero"`
	Received string        `json:"received,omitzero"`
	Fixes    []string      `json:"fixes,omitempty"`
	Fault    string        `json:"fault,omitzero"`
}
