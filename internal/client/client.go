// Package client talks to the API of a service: it submits jobs, follows them
// and fetches their results. It must not know what a command line makes of
// them. What a server answers is bounded, and made harmless before it becomes
// an error message on somebody's terminal.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/kernel-bisect/kbisect/internal/api"
)

const (
	// maxAnswer bounds what is read into memory: a series with every console.
	maxAnswer = 512 << 20
	// tries of a request that may be repeated.
	tries = 3
	// maxWait is how long one is waited for at most, whatever the server says.
	maxWait = time.Minute
)

// Client of one server. It may be used by several goroutines.
type Client struct {
	base  string // without a slash at its end
	token string
	http  *http.Client
}

// New makes a client of the server at an address such as https://host:8080. It
// does not connect yet.
func New(server, token string) (*Client, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("server %s: an address such as https://host:8080 is needed", harmless(server))
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("server: the address has more than a host and a path; a token is given by itself")
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("the token has a blank or a strange letter in it: it looks like kb_abc_def")
	}
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 2 * time.Minute,
		MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute,
	}
	return &Client{base: strings.TrimRight(u.String(), "/"), token: token, http: &http.Client{
		Transport: t,
		// A redirect would turn a POST into a GET, and take the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close gives up idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Error is what a server says against a request.
type Error struct {
	Status int // HTTP
	Detail string
}

func (e *Error) Error() string { return e.Detail }

// content is the body of a request; open may be called again for another try.
type content struct {
	kind string
	open func() (io.ReadCloser, error)
}

func jsonContent(v any) (*content, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return &content{"application/json", func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }}, nil
}

// get fetches an answer in JSON.
func (c *Client) get(ctx context.Context, path string, into any) error {
	return c.call(ctx, http.MethodGet, path, nil, nil, into)
}

// call makes a request and decodes its answer. It is repeated where the server
// is busy or away, which only requests may be that do no harm twice.
func (c *Client) call(ctx context.Context, method, path string, header http.Header, body *content, into any) error {
	res, err := c.send(ctx, method, path, header, body, tries)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := c.read(res)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("server %s: its answer to %s is no JSON that this orchestrator knows", c.base, path)
	}
	return nil
}

// send makes a request, up to so many times, and gives an answer of success.
func (c *Client) send(ctx context.Context, method, path string, header http.Header, body *content, tries int) (*http.Response, error) {
	for try := 1; ; try++ {
		res, err := c.once(ctx, method, path, header, body)
		if err == nil {
			return res, nil
		}
		var later *busyError
		if !errors.As(err, &later) || try == tries {
			return nil, err
		}
		if err := sleep(ctx, max(later.wait, time.Second<<(try-1))); err != nil {
			return nil, err
		}
	}
}

// busyError is one that may be over soon.
type busyError struct {
	error
	wait time.Duration // as the server asks for, 0 for nothing said
}

func (e *busyError) Unwrap() error { return e.error }

func (c *Client) once(ctx context.Context, method, path string, header http.Header, body *content) (*http.Response, error) {
	var r io.ReadCloser
	if body != nil {
		var err error
		if r, err = body.open(); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, r)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if body != nil {
		req.Header.Set("Content-Type", body.kind)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if err := c.refused(res); err != nil {
		_ = res.Body.Close()
		return nil, err
	}
	return res, nil
}

// unreachable says why there was no answer.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // without the method and the whole address
	}
	why := harmless(err.Error())
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		why = "nobody listens there: is `orchestrator serve` running?"
	case errors.As(err, &dns):
		why = "there is no host of that name"
	case strings.Contains(why, "HTTP response to HTTPS client"):
		return fmt.Errorf("server %s: it does not speak TLS: use http://", c.base)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		why = "it hung up"
	}
	return &busyError{error: fmt.Errorf("server %s cannot be reached: %s", c.base, why)}
}

// refused says what is wrong with an answer, nil for one of success.
func (c *Client) refused(res *http.Response) error {
	version, err := strconv.Atoi(res.Header.Get(api.VersionHeader))
	switch {
	case err != nil && (res.StatusCode == http.StatusBadGateway || res.StatusCode == http.StatusServiceUnavailable || res.StatusCode == http.StatusGatewayTimeout):
		return &busyError{error: fmt.Errorf("server %s: what stands before it says %d: is it running?", c.base, res.StatusCode)}
	case err != nil && res.StatusCode >= 300 && res.StatusCode < 400:
		return fmt.Errorf("server %s: it redirects to %s: use that address", c.base, harmless(res.Header.Get("Location")))
	case err != nil:
		return fmt.Errorf("server %s: that is no kbisect (it answers %d)", c.base, res.StatusCode)
	case version > api.Version:
		return fmt.Errorf("server %s: it speaks version %d of the API, this orchestrator version %d: install the one that the server has", c.base, version, api.Version)
	case res.StatusCode < 300:
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // what was cut off has the status still
	var p api.Problem
	if json.Unmarshal(text, &p) != nil || p.Detail == "" {
		p.Detail = "it answers " + strconv.Itoa(res.StatusCode)
	}
	e := &Error{Status: res.StatusCode, Detail: "server " + c.base + ": " + harmless(p.Detail)}
	if res.StatusCode != http.StatusTooManyRequests && res.StatusCode != http.StatusServiceUnavailable {
		return e
	}
	seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
	return &busyError{e, min(time.Duration(max(seconds, 0))*time.Second, maxWait)}
}

// read reads an answer whole.
func (c *Client) read(res *http.Response) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		if ctxErr := res.Request.Context().Err(); ctxErr != nil {
			return nil, ctxErr
		}
		return nil, fmt.Errorf("server %s: its answer ended early: try again", c.base)
	}
	if len(text) > maxAnswer {
		return nil, fmt.Errorf("server %s: its answer is larger than %d MiB", c.base, maxAnswer>>20)
	}
	return text, nil
}

// accepts says whether an answer is of a type.
func accepts(res *http.Response, want string) bool {
	got, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	return err == nil && got == want
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// harmless makes one line of at most 500 bytes that moves no cursor.
func harmless(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > 500 {
		s = strings.ToValidUTF8(s[:500], "") + "..."
	}
	return s
}
