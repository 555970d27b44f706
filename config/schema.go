package config

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// setting is one key of mailgate.yaml: how its text becomes a value.
type setting struct {
	key string
	set func(c *Config, v string) error // scalars
	get func(c *Config) any
}

func str(key string, at func(*Config) *string, allowed ...string) setting {
	return setting{key, func(c *Config, v string) error {
		if len(allowed) > 0 && !contains(allowed, v) {
			return fmt.Errorf("%q is not understood%s", v, didYouMean(v, allowed))
		}
		*at(c) = v
		return nil
	}, func(c *Config) any { return *at(c) }}
}

func contains(list []string, v string) bool {
	for _, x := range list {
		if x == v {
			return true
		}
	}
	return false
}

func dur(key string, at func(*Config) *time.Duration) setting {
	return setting{key, func(c *Config, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return fmt.Errorf("%q is no duration; write for example 20s, 5m or 1h30m", v)
		}
		*at(c) = d
		return nil
	}, func(c *Config) any { return at(c).String() }}
}

func num[T int | int64](key string, at func(*Config) *T) setting {
	return setting{key, func(c *Config, v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 || n > 1<<40 {
			return fmt.Errorf("%q is not a number, 0 or more", v)
		}
		*at(c) = T(n)
		return nil
	}, func(c *Config) any { return *at(c) }}
}

// ParseSize reads a number of bytes: 500000, or 512K, 10M, 2G (of 1024).
func ParseSize(v string) (int64, error) {
	digits, unit := v, int64(1)
	for i, letter := range []string{"K", "M", "G"} {
		if n := len(v) - 1; n > 0 && strings.EqualFold(v[n:], letter) {
			digits, unit = v[:n], 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || digits[0] == '+' || n > 1<<40/unit {
		return 0, fmt.Errorf("%q is no number of bytes; write for example 500000, 512K or 10M", v)
	}
	return n * unit, nil
}

// SizeText is how a number of bytes is written so that ParseSize reads it.
func SizeText(n int64) string {
	for i, letter := range []string{"G", "M", "K"} {
		if unit := int64(1) << (10 * (3 - i)); n >= unit && n%unit == 0 {
			return strconv.FormatInt(n/unit, 10) + letter
		}
	}
	return strconv.FormatInt(n, 10)
}

// byteRate is bytes a second, 0 for no limit.
func byteRate(key string, at func(*Config) *int64) setting {
	return setting{key, func(c *Config, v string) error {
		n, err := ParseSize(v)
		if err == nil {
			err = CheckByteRate(n)
		}
		if err != nil {
			return err
		}
		*at(c) = n
		return nil
	}, func(c *Config) any { return SizeText(*at(c)) }}
}

// CheckByteRate refuses what is no limit but a standstill: a number of which the unit was left out, most likely.
func CheckByteRate(n int64) error {
	if n > 0 && n < 1024 {
		return fmt.Errorf("%d bytes a second is next to nothing; write a unit, such as %dM, or 0 for no limit", n, n)
	}
	return nil
}

func share(key string, at func(*Config) *float64) setting {
	return setting{key, func(c *Config, v string) error {
		f, err := parseFloat(v)
		if err != nil || !(f >= 0 && f <= 1) {
			return fmt.Errorf("%q is no share; write a number from 0 to 1", v)
		}
		*at(c) = f
		return nil
	}, func(c *Config) any { return *at(c) }}
}

func parseFloat(v string) (float64, error) { return strconv.ParseFloat(v, 64) }

func boolean(key string, at func(*Config) *bool) setting {
	return setting{key, func(c *Config, v string) error {
		if v != "true" && v != "false" {
			return fmt.Errorf("%q is neither true nor false", v)
		}
		*at(c) = v == "true"
		return nil
	}, func(c *Config) any { return *at(c) }}
}

// settings are all scalar keys, in the order in which config show prints them.
func settings() []setting { return append(baseSettings(), gateSettings()...) }

func baseSettings() []setting {
	s := []setting{
		str("hostname", func(c *Config) *string { return &c.Hostname }),
		str("node", func(c *Config) *string { return &c.Node }),
		str("tls.min_version", func(c *Config) *string { return &c.TLS.MinVersion }, "1.2", "1.3"),
		str("tls.client_ca", func(c *Config) *string { return &c.TLS.ClientCA }),
		str("tls.ticket_keys", func(c *Config) *string { return &c.TLS.TicketKeys }),
		boolean("tls.acme.agree", func(c *Config) *bool { return &c.TLS.ACME.Agree }),
		str("tls.acme.email", func(c *Config) *string { return &c.TLS.ACME.Email }),
		str("tls.acme.directory", func(c *Config) *string { return &c.TLS.ACME.Directory }),
		str("tls.acme.ca", func(c *Config) *string { return &c.TLS.ACME.CA }),
		str("tls.acme.storage", func(c *Config) *string { return &c.TLS.ACME.Storage }),
		str("tls.acme.eab.key_id", func(c *Config) *string { return &c.TLS.ACME.EAB.KeyID }),
		str("tls.acme.eab.key_file", func(c *Config) *string { return &c.TLS.ACME.EAB.KeyFile }),
		str("tls.acme.profile", func(c *Config) *string { return &c.TLS.ACME.Profile }),
		str("tls.acme.key_type", func(c *Config) *string { return &c.TLS.ACME.KeyType }, "p256", "p384", "rsa2048", "rsa4096"),
		str("tls.acme.challenge", func(c *Config) *string { return &c.TLS.ACME.Challenge }, HTTP01, TLSALPN01, DNS01),
		str("tls.acme.http_listen", func(c *Config) *string { return &c.TLS.ACME.HTTPListen }),
		str("tls.acme.tls_listen", func(c *Config) *string { return &c.TLS.ACME.TLSListen }),
		setting{"tls.acme.dns.server", func(c *Config, v string) error {
			e := Endpoint{Port: 53}
			if v == "" {
				return nil
			}
			if err := e.hostPort(v); err != nil || e.Host == "" || e.Port == 0 {
				return fmt.Errorf("%q is no server; write for example ns1.example.com or 192.0.2.1:53", v)
			}
			c.TLS.ACME.DNS.Server = e.Address()
			return nil
		}, func(c *Config) any { return c.TLS.ACME.DNS.Server }},
		setting{"tls.acme.dns.zone", func(c *Config, v string) error {
			name, err := hostName(strings.TrimSuffix(v, "."))
			if err != nil {
				return fmt.Errorf("%q is no zone; write for example example.com", v)
			}
			c.TLS.ACME.DNS.Zone = name
			return nil
		}, func(c *Config) any { return c.TLS.ACME.DNS.Zone }},
		str("tls.acme.dns.key", func(c *Config) *string { return &c.TLS.ACME.DNS.Key }),
		str("tls.acme.dns.algorithm", func(c *Config) *string { return &c.TLS.ACME.DNS.Algorithm }, "hmac-sha256", "hmac-sha512", "hmac-sha384",
			"hmac-sha224", "hmac-sha1"),
		str("tls.acme.dns.key_file", func(c *Config) *string { return &c.TLS.ACME.DNS.KeyFile }),
		dur("tls.acme.dns.wait", func(c *Config) *time.Duration { return &c.TLS.ACME.DNS.Wait }),
	}
	for _, side := range Sides {
		b := func(c *Config) *Backend { return &c.Backends[side] }
		p := "backends." + side.String() + "."
		s = append(s,
			setting{p + "login", func(c *Config, v string) error {
				b(c).Login = v
				return checkTemplate(v)
			}, func(c *Config) any { return b(c).Login }},
			boolean(p+"client_address", func(c *Config) *bool { return &b(c).ClientAddress }),
			boolean(p+"proxy_protocol", func(c *Config) *bool { return &b(c).ProxyProtocol }),
			str(p+"auth", func(c *Config) *string { return &b(c).Auth }, "auto", "plain", "login"),
			boolean(p+"no_initial_response", func(c *Config) *bool { return &b(c).NoInitialResponse }),
			str(p+"tls.ca", func(c *Config) *string { return &b(c).CA }),
			str(p+"tls.server_name", func(c *Config) *string { return &b(c).ServerName }),
			dur(p+"connect_timeout", func(c *Config) *time.Duration { return &b(c).ConnectTimeout }),
			dur(p+"login_timeout", func(c *Config) *time.Duration { return &b(c).LoginTimeout }),
			num(p+"max_connections", func(c *Config) *int { return &b(c).MaxConnections }),
			num(p+"max_logins", func(c *Config) *int { return &b(c).MaxLogins }),
			dur(p+"login_wait", func(c *Config) *time.Duration { return &b(c).LoginWait }),
			str(p+"sync.secrets", func(c *Config) *string { return &b(c).Sync.Secrets }),
			str(p+"sync.master_user", func(c *Config) *string { return &b(c).Sync.MasterUser }),
			str(p+"sync.master_password", func(c *Config) *string { return &b(c).Sync.MasterPassword }),
			str(p+"sync.master_login", func(c *Config) *string { return &b(c).Sync.MasterLogin }),
			boolean(p+"sync.learned", func(c *Config) *bool { return &b(c).Sync.Learned }),
			str(p+"sync.sieve_names", func(c *Config) *string { return &b(c).Sync.SieveNames }, "auto", "utf-8", "utf-7"),
			num(p+"sync.max_connections", func(c *Config) *int { return &b(c).SyncLimits.MaxConnections }),
			num(p+"sync.messages_per_second", func(c *Config) *int64 { return &b(c).SyncLimits.MessagesPerSecond }),
			byteRate(p+"sync.bytes_per_second", func(c *Config) *int64 { return &b(c).SyncLimits.BytesPerSecond }),
		)
	}
	return append(s,
		str("routes.file", func(c *Config) *string { return &c.Routes.File }),
		str("routes.local_part", func(c *Config) *string { return &c.Routes.LocalPart }, "fold", "exact"),
		str("routes.subaddress", func(c *Config) *string { return &c.Routes.Subaddress }),
		str("routes.default_domain", func(c *Config) *string { return &c.Routes.DefaultDomain }),
		dur("routes.watch", func(c *Config) *time.Duration { return &c.Routes.Watch }),
		share("routes.approve_share", func(c *Config) *float64 { return &c.Routes.ApproveShare }),
		num("routes.approve_min", func(c *Config) *int { return &c.Routes.ApproveMin }),
		str("store.path", func(c *Config) *string { return &c.Store.Path }),
		setting{"store.url", func(c *Config, v string) error {
			if v != "" && !strings.HasPrefix(v, "postgres://") && !strings.HasPrefix(v, "postgresql://") {
				return errors.New("that is no URL of a PostgreSQL database; write postgres://USER@HOST/DATABASE") // it may hold a password
			}
			c.Store.URL = Secret(v)
			return nil
		}, func(c *Config) any {
			if c.Store.URL == "" {
				return ""
			}
			return c.Store.URL.String()
		}},
		str("control.socket", func(c *Config) *string { return &c.Control.Socket }),
		str("admin.listen", func(c *Config) *string { return &c.Admin.Listen }),
		dur("login.fail_delay", func(c *Config) *time.Duration { return &c.Login.FailDelay }),
		num("login.max_failures", func(c *Config) *int { return &c.Login.MaxFailures }),
		str("login.learn.key", func(c *Config) *string { return &c.Login.Learn.Key }),
		boolean("login.learn.hash", func(c *Config) *bool { return &c.Login.Learn.Hash }),
		dur("login.learn.hook_time", func(c *Config) *time.Duration { return &c.Login.Learn.HookTime }),
		num("login.learn.hook_parallel", func(c *Config) *int { return &c.Login.Learn.HookParallel }),
		dur("login.learn.expire", func(c *Config) *time.Duration { return &c.Login.Learn.Expire }),
		setting{"authority.default", func(c *Config, v string) error {
			if !contains(authorityNames(), v) {
				return fmt.Errorf("%q is not understood%s", v, didYouMean(v, authorityNames()))
			}
			c.Authority.Default = Authority(v)
			return nil
		}, func(c *Config) any { return string(c.Authority.Default) }},
		str("authority.file", func(c *Config) *string { return &c.Authority.File }),
		str("authority.ldap.url", func(c *Config) *string { return &c.Authority.LDAP.URL }),
		str("authority.ldap.ca", func(c *Config) *string { return &c.Authority.LDAP.CA }),
		str("authority.ldap.dn", func(c *Config) *string { return &c.Authority.LDAP.DN }),
		str("authority.ldap.base", func(c *Config) *string { return &c.Authority.LDAP.Base }),
		str("authority.ldap.filter", func(c *Config) *string { return &c.Authority.LDAP.Filter }),
		str("authority.ldap.bind_dn", func(c *Config) *string { return &c.Authority.LDAP.BindDN }),
		str("authority.ldap.bind_password", func(c *Config) *string { return &c.Authority.LDAP.BindPassword }),
		dur("authority.ldap.timeout", func(c *Config) *time.Duration { return &c.Authority.LDAP.Timeout }),
		str("authority.oauth.url", func(c *Config) *string { return &c.Authority.OAuth.URL }),
		str("authority.oauth.ca", func(c *Config) *string { return &c.Authority.OAuth.CA }),
		str("authority.oauth.client_id", func(c *Config) *string { return &c.Authority.OAuth.ClientID }),
		str("authority.oauth.client_secret", func(c *Config) *string { return &c.Authority.OAuth.ClientSecret }),
		str("authority.oauth.claim", func(c *Config) *string { return &c.Authority.OAuth.Claim }),
		dur("authority.oauth.cache", func(c *Config) *time.Duration { return &c.Authority.OAuth.Cache }),
		dur("authority.oauth.timeout", func(c *Config) *time.Duration { return &c.Authority.OAuth.Timeout }),
		str("submission.bare_newlines", func(c *Config) *string { return &c.Submit.BareNewlines }, "refuse", "normalize"),
		num("submission.max_size", func(c *Config) *int64 { return &c.Submit.MaxSize }),
		dur("flip.deadline", func(c *Config) *time.Duration { return &c.Flip.Deadline }),
		dur("flip.hold", func(c *Config) *time.Duration { return &c.Flip.Hold }),
		num("flip.parallel", func(c *Config) *int { return &c.Flip.Parallel }),
		num("flip.prepare", func(c *Config) *int { return &c.Flip.Prepare }),
		str("flip.delta", func(c *Config) *string { return &c.Flip.Delta }, "auto", "require", "off"),
		str("flip.hold_file", func(c *Config) *string { return &c.Flip.HoldFile }),
		num("sync.connections", func(c *Config) *int { return &c.Sync.Connections }),
		num("sync.batch", func(c *Config) *int { return &c.Sync.Batch }),
		dur("sync.settle", func(c *Config) *time.Duration { return &c.Sync.Settle }),
		dur("sync.grace", func(c *Config) *time.Duration { return &c.Sync.Grace }),
		dur("sync.confirm", func(c *Config) *time.Duration { return &c.Sync.Confirm }),
		num("sync.user_messages_per_second", func(c *Config) *int64 { return &c.Sync.UserMessagesPerSecond }),
		byteRate("sync.user_bytes_per_second", func(c *Config) *int64 { return &c.Sync.UserBytesPerSecond }),
		num("sync.passes", func(c *Config) *int { return &c.Sync.Passes }),
		num("sync.watch", func(c *Config) *int { return &c.Sync.Watch }),
		dur("sync.poll", func(c *Config) *time.Duration { return &c.Sync.Poll }),
		num("limits.pre_auth", func(c *Config) *int { return &c.Limits.PreAuth }),
		num("limits.pre_auth_per_ip", func(c *Config) *int { return &c.Limits.PreAuthPerIP }),
		num("limits.per_listener", func(c *Config) *int { return &c.Limits.PerListener }),
		num("limits.sessions_per_user", func(c *Config) *int { return &c.Limits.SessionsPerUser }),
		num("limits.sessions_per_ip", func(c *Config) *int { return &c.Limits.SessionsPerIP }),
		dur("limits.disconnect_spread", func(c *Config) *time.Duration { return &c.Limits.DisconnectSpread }),
		dur("limits.handshake", func(c *Config) *time.Duration { return &c.Limits.Handshake }),
		dur("limits.pre_auth_time", func(c *Config) *time.Duration { return &c.Limits.PreAuthTime }),
		dur("limits.command_time", func(c *Config) *time.Duration { return &c.Limits.CommandTime }),
		dur("limits.data_time", func(c *Config) *time.Duration { return &c.Limits.DataTime }),
		num("limits.line_length", func(c *Config) *int { return &c.Limits.LineLength }),
		num("limits.literal_length", func(c *Config) *int { return &c.Limits.LiteralLength }),
		str("log.format", func(c *Config) *string { return &c.Log.Format }, "text", "json"),
		setting{"log.level", func(c *Config, v string) error { return setLevel(&c.Log.Level, v) },
			func(c *Config) any { return strings.ToLower(c.Log.Level.String()) }},
		dur("shutdown", func(c *Config) *time.Duration { return &c.Shutdown }),
	)
}

func setLevel(l *slog.Level, v string) error {
	if err := l.UnmarshalText([]byte(v)); err != nil {
		return fmt.Errorf("%q is no level%s", v, didYouMean(v, []string{"debug", "info", "warn", "error"}))
	}
	return nil
}

// listKeys are the keys that hold lists; subkeys of their items follow, none for lists of scalars.
func listKeys() map[string][]string {
	return map[string][]string{
		"listen":                nil,
		"proxy_networks":        nil,
		"login.mechanisms":      nil,
		"hooks":                 hookKeys(),
		"login.learn.hook":      nil,
		"tls.certificates":      {"cert", "key"},
		"tls.acme.domains":      nil,
		"backends.old.hosts":    {"name", "imap", "pop3", "submission", "sieve"},
		"backends.new.hosts":    {"name", "imap", "pop3", "submission", "sieve"},
		"backends.old.tls.pins": nil,
		"backends.new.tls.pins": nil,
		"sync.rename":           {"old", "new"},
		"sync.exclude":          nil,
		"sync.waves":            nil,
		"sync.use":              {"use", "name"},
		"sync.windows":          nil,
		"gates.bounces.command": nil,
		"gates.custom":          {"name", "command", "timeout", "mode"},
		"waves":                 waveKeys(),

		"backends.old.sync.token_command": nil,
		"backends.new.sync.token_command": nil,
	}
}

// itemLists are keys of items that hold lists of single values themselves.
func itemLists() []string { return []string{"hooks.on", "hooks.command", "hooks.waves"} }

// Default is the one place of default values.
func Default() Config {
	b := Backend{Login: "{address}", Auth: "auto", ConnectTimeout: 10 * time.Second, LoginTimeout: 30 * time.Second,
		MaxLogins: 64, LoginWait: 25 * time.Second, Sync: SyncLogin{MasterLogin: "authzid", SieveNames: "auto"}}
	return Config{
		TLS: TLS{MinVersion: "1.2", ACME: ACME{Directory: "https://acme-v02.api.letsencrypt.org/directory", Storage: "state/acme", KeyType: "p256",
			Challenge: HTTP01, HTTPListen: ":80", DNS: ACMEDNS{Algorithm: "hmac-sha256", Wait: 2 * time.Minute}}},
		Backends: [2]Backend{b, b},
		Routes: Routes{File: "routes", LocalPart: "fold", Subaddress: "+", Watch: 500 * time.Millisecond, ApproveShare: 0.2,
			ApproveMin: 10},
		Store:   Store{Path: "state/mailgate.db"},
		Control: Control{Socket: "state/control.sock"},
		Login: Login{Mechanisms: append([]string{"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"}, RelayedMechanisms()...), FailDelay: 2 * time.Second,
			MaxFailures: 5, Learn: Learn{Expire: 30 * 24 * time.Hour, HookTime: 30 * time.Second, HookParallel: 2}},
		Authority: Verifiers{Default: ByRoute, LDAP: LDAP{Filter: "(mail={address})", Timeout: 10 * time.Second},
			OAuth: OAuth{Claim: "username", Cache: 30 * time.Second, Timeout: 10 * time.Second}},
		Submit: Submit{BareNewlines: "refuse"},
		Flip:   Flip{Deadline: 20 * time.Second, Hold: 25 * time.Second, Parallel: 16, Prepare: 16, Delta: "auto"},
		Gates:  defaultGates(),
		Sync:   Sync{Connections: 3, Batch: 256, Settle: 2 * time.Second, Grace: 24 * time.Hour, Confirm: time.Hour, Passes: 4, Watch: 100, Poll: 5 * time.Minute},
		Limits: Limits{PreAuth: 4096, PreAuthPerIP: 1024, PerListener: 50000, SessionsPerUser: 200,
			DisconnectSpread: 10 * time.Second, Handshake: 15 * time.Second,
			PreAuthTime: 3 * time.Minute, CommandTime: time.Minute, DataTime: 5 * time.Minute, LineLength: 8192,
			LiteralLength: 4096},
		Log:      Log{Format: "text"},
		Shutdown: 20 * time.Second,
	}
}
