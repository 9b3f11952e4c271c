package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"

	"spekeasy/internal/tenant"
)

// Admin is the listener for operators and their tools.
type Admin struct {
	// Listen is an address and port, or "off". By default it is the port
	// after that of the main listener, on loopback.
	Listen string `yaml:"listen"`

	// Pprof serves profiles on an address that others can reach, too.
	Pprof bool `yaml:"pprof"`

	// Credentials let people and their tools into the admin API, beside those
	// in the store.
	Credentials []AdminCredential `yaml:"credentials"`
}

// AdminOff as the address switches the admin listener off.
const AdminOff = "off"

// AnyLoopback is a free port that only this machine reaches.
const AnyLoopback = "127.0.0.1:0"

// AdminAddress returns where the admin listener listens, "" for nowhere, and
// whether the configuration says so. main is the main listener's address as
// it is open: where its port was left to the system, so is this one.
func (c *Config) AdminAddress(main net.Addr) (address string, given bool) {
	switch c.Admin.Listen {
	case AdminOff:
		return "", true
	case "":
	default:
		return c.Admin.Listen, true
	}
	tcp, ok := main.(*net.TCPAddr)
	_, port, err := net.SplitHostPort(c.Listen)
	if !ok || err != nil || port == "0" || tcp.Port == 65535 {
		return AnyLoopback, false
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port+1)), false
}

// Telemetry is about traces and logs that go to an OpenTelemetry collector.
type Telemetry struct {
	Endpoint string                   `yaml:"endpoint"` // base URL for OTLP/HTTP; none by default
	Headers  map[string]tenant.Secret `yaml:"headers"`  // sent along, such as an API key
	Sample   float64                  `yaml:"sample"`   // share of the traces that begin here which are sent
	Logs     bool                     `yaml:"logs"`     // whether logs are sent too
}

func (c *Config) checkWatch() (errs []error) {
	if l := c.Admin.Listen; l != "" && l != AdminOff {
		if _, _, err := net.SplitHostPort(l); err != nil {
			errs = append(errs, fmt.Errorf("admin.listen: %w", err))
		}
	}
	if e := c.Telemetry.Endpoint; e != "" {
		u, err := url.Parse(e)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
			errs = append(errs, errors.New("telemetry.endpoint: must be the http or https URL of a collector, without user and query"))
		}
	}
	if s := c.Telemetry.Sample; !(s >= 0 && s <= 1) {
		errs = append(errs, errors.New("telemetry.sample: must be between 0 and 1"))
	}
	return errs
}
