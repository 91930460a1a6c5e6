package queue

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// selfMade is a certificate for 127.0.0.1 that is its own authority.
func selfMade(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLS(t *testing.T) {
	cert, right := selfMade(t)
	_, wrong := selfMade(t)
	secure := start(t, Options{Listen: "127.0.0.1:0", Credentials: secrets, TLS: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}})
	clear := start(t, Options{Listen: "127.0.0.1:0", Credentials: secrets})
	trust := func(ca *x509.CertPool) *tls.Config { return &tls.Config{RootCAs: ca, MinVersion: tls.VersionTLS12} }
	far := func(url string, c *tls.Config) (*Worker, error) {
		return Connect(t.Context(), WorkerOptions{Name: "w1", Secret: "one", URL: url, TLS: c, Announce: Announce{Slots: 1}})
	}
	for what, c := range map[string]struct {
		url  string
		tls  *tls.Config
		want string
	}{
		"wrong authority": {"tls://" + secure.Addr(), trust(wrong), "certificate signed by unknown authority"},
		"client in clear": {"nats://" + secure.Addr(), nil, "certificate signed by unknown authority"},
		"server in clear": {"tls://" + clear.Addr(), trust(right), "secure connection not available"},
	} {
		_, err := far(c.url, c.tls)
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", what, err)
		}
	}
	w, err := far("tls://"+secure.Addr(), trust(right))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, w, echo)
	if r := get(t, do(t.Context(), secure, task("j", 0)), "answer"); r.err != nil || r.a.Worker != "w1" {
		t.Errorf("%+v", r)
	}
}
