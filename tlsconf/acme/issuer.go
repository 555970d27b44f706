package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"mailgate/config"
)

// issuer is the authority for certmagic, which it is a certmagic.Issuer of.
type issuer struct {
	conf   config.ACME
	folder *folder
	solver acmez.Solver
	http   *http.Client
}

// requestTime bounds one request to the authority, and issueTime all of one certificate but for dns.wait.
const (
	requestTime = 30 * time.Second
	issueTime   = 5 * time.Minute
)

func newIssuer(c config.ACME, f *folder, s acmez.Solver) (*issuer, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		b, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.acme.ca: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("tls.acme.ca: %s holds no certificate", c.CA)
		}
	}
	client := &http.Client{Timeout: requestTime, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: t, ForceAttemptHTTP2: true,
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, TLSHandshakeTimeout: 10 * time.Second}}
	return &issuer{conf: c, folder: f, solver: s, http: client}, nil
}

// IssuerKey implements certmagic.Issuer.
func (i *issuer) IssuerKey() string { return issuerKey(i.conf) }

// Issue implements certmagic.Issuer.
func (i *issuer) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	client := i.client()
	account, err := i.account(ctx, client.Client)
	if err != nil {
		return nil, err
	}
	chains, err := i.order(ctx, client, account, csr)
	if problem, ok := errors.AsType[acme.Problem](err); ok && problem.Type == acme.ProblemTypeAccountDoesNotExist {
		// The authority began anew, as private ones do. Its word is enough: an account costs nothing.
		if account, err = i.register(ctx, client.Client); err == nil {
			chains, err = i.order(ctx, client, account, csr)
		}
	}
	switch {
	case err != nil:
		return nil, err
	case len(chains) == 0:
		return nil, errors.New("the authority gave no certificate")
	}
	return &certmagic.IssuedCertificate{Certificate: chains[0].ChainPEM, Metadata: chains[0]}, nil
}

func (i *issuer) client() *acmez.Client {
	return &acmez.Client{Client: &acme.Client{Directory: i.conf.Directory, HTTPClient: i.http, UserAgent: "mailgate", PollTimeout: issueTime},
		ChallengeSolvers: map[string]acmez.Solver{i.conf.Challenge: i.solver}}
}

func (i *issuer) order(ctx context.Context, client *acmez.Client, account acme.Account, csr *x509.CertificateRequest) ([]acme.Certificate, error) {
	p, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return nil, err
	}
	p.Profile = i.conf.Profile
	return client.ObtainCertificate(ctx, p)
}

// keptAccount is the file of an account.
type keptAccount struct {
	Account acme.Account `json:"account"`
	Key     string       `json:"key"` // PEM
}

func (i *issuer) accountFile() string {
	return "accounts/" + certmagic.StorageKeys.Safe(i.IssuerKey()) + ".json"
}

// account is the one that was made before, or a new one.
func (i *issuer) account(ctx context.Context, client *acme.Client) (acme.Account, error) {
	b, err := i.folder.Load(ctx, i.accountFile())
	if errors.Is(err, fs.ErrNotExist) {
		return i.register(ctx, client)
	}
	if err != nil {
		return acme.Account{}, fmt.Errorf("%w: %w", ErrStorage, err)
	}
	var kept keptAccount
	if err := json.Unmarshal(b, &kept); err != nil {
		return acme.Account{}, fmt.Errorf("%w: %s is broken; remove it, and another account is made: %w", ErrStorage, i.folder.files.Filename(i.accountFile()), err)
	}
	key, err := certmagic.PEMDecodePrivateKey([]byte(kept.Key))
	if err != nil {
		return acme.Account{}, fmt.Errorf("%w: %s is broken; remove it, and another account is made: %w", ErrStorage, i.folder.files.Filename(i.accountFile()), err)
	}
	kept.Account.PrivateKey = key
	return kept.Account, nil
}

// register makes an account and keeps it.
func (i *issuer) register(ctx context.Context, client *acme.Client) (acme.Account, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return acme.Account{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return acme.Account{}, err
	}
	a := acme.Account{TermsOfServiceAgreed: i.conf.Agree, PrivateKey: key}
	if i.conf.Email != "" {
		a.Contact = []string{"mailto:" + i.conf.Email}
	}
	if i.conf.EAB.KeyID != "" {
		mac, err := config.EABKey(i.conf.EAB.KeyFile)
		if err != nil {
			return a, fmt.Errorf("tls.acme.eab.key_file: %w", err)
		}
		if err := a.SetExternalAccountBinding(ctx, client, acme.EAB{KeyID: i.conf.EAB.KeyID, MACKey: mac.Reveal()}); err != nil {
			return a, fmt.Errorf("the customer's account: %w", err)
		}
	}
	if a, err = client.NewAccount(ctx, a); err != nil {
		return a, fmt.Errorf("making an account: %w", err)
	}
	b, err := json.MarshalIndent(keptAccount{a, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))}, "", "\t")
	if err == nil {
		err = i.folder.Store(ctx, i.accountFile(), b)
	}
	return a, err
}

// reach looks whether the authority answers, and gives the page of its terms.
func (i *issuer) reach(ctx context.Context) (terms string, err error) {
	d, err := i.client().GetDirectory(ctx)
	if err == nil && d.Meta != nil {
		terms = d.Meta.TermsOfService
	}
	return terms, err
}

// Words are an error of a request for people: what the authority says, in its own words, where it has said something.
func Words(err error) string {
	if zone, ok := errors.AsType[*dnsError](err); ok {
		return zone.Error() // without how acmez came to it
	}
	problem, ok := errors.AsType[acme.Problem](err)
	if !ok {
		return err.Error()
	}
	text := "the authority says: " + problem.Detail
	for _, p := range problem.Subproblems {
		text += "; " + strings.TrimSpace(p.Identifier.Value+" "+p.Detail)
	}
	kind := strings.TrimPrefix(problem.Type, acme.ProblemTypeNamespace)
	if kind != "" && kind != problem.Detail {
		text += " (" + kind + ")"
	}
	return text
}
