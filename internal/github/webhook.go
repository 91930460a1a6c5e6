package github

import (
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	gh "github.com/google/go-github/v57/github"
)

// maxPayload is GitHub's own cap on payloads.
// Source: docs.github.com/webhooks/webhook-events-and-payloads#payload-cap.
const maxPayload = 25 << 20

var deliveryForm = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// ErrNoSecret says that webhooks would be taken from anybody.
var ErrNoSecret = errors.New("webhooks need a secret: without one anybody could send them")

// atOnce bounds how many payloads are in memory: who sends them is known only when
// one has been read whole.
const atOnce = 16

// readWithin is how long a payload may take: GitHub itself gives up after ten
// seconds.
// Source: docs.github.com/webhooks/testing-and-troubleshooting-webhooks/troubleshooting-webhooks#timed-out.
const readWithin = 15 * time.Second

// Webhook takes deliveries of GitHub that are signed with the secret, and keeps
// them by deliver before it answers 202: what follows from them is done later.
// The same id again is not GitHub's to know of. SHA-1 signatures are not enough.
// Source: docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries.
func Webhook(secret []byte, deliver func(ctx context.Context, id, event string, body []byte) error) (http.Handler, error) {
	if len(secret) == 0 {
		return nil, ErrNoSecret
	}
	reading := make(chan struct{}, atOnce)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "POST only: this is for GitHub's webhooks", http.StatusMethodNotAllowed)
			return
		}
		signature := r.Header.Get(gh.SHA256SignatureHeader)
		if !strings.HasPrefix(signature, "sha256=") { // the library takes others, too
			http.Error(w, "X-Hub-Signature-256 is missing: set the webhook's secret at GitHub", http.StatusUnauthorized)
			return
		}
		event, id := gh.WebHookType(r), gh.DeliveryID(r)
		if !deliveryForm.MatchString(id) || event == "" || event == polled {
			http.Error(w, "X-GitHub-Delivery or X-GitHub-Event is missing", http.StatusBadRequest)
			return
		}
		select {
		case reading <- struct{}{}:
			defer func() { <-reading }()
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readWithin))
		case <-r.Context().Done():
			return
		}
		body, err := gh.ValidatePayloadFromBody(r.Header.Get("Content-Type"), http.MaxBytesReader(w, r.Body, maxPayload), signature, secret)
		var tooLong *http.MaxBytesError
		switch {
		case errors.As(err, &tooLong):
			http.Error(w, "the payload is too long", http.StatusRequestEntityTooLarge)
			return
		case err != nil: // also a content type that GitHub does not send
			http.Error(w, "the signature does not fit: is it the same secret at GitHub and here?", http.StatusUnauthorized)
			return
		}
		if event == "ping" {
			_, _ = io.WriteString(w, "pong\n")
			return
		}
		e, matters, err := Decode(event, body)
		if err == nil && matters && e.id != "" { // a comment: who polls as well sees it twice
			id, event, body, err = e.Delivery()
		}
		switch {
		case err != nil:
			http.Error(w, "this cannot be read as a "+event+" event", http.StatusBadRequest)
			return
		case matters:
			if err := deliver(r.Context(), id, event, body); err != nil {
				http.Error(w, "it cannot be kept now: deliver it again", http.StatusServiceUnavailable)
				return
			}
		}
		w.WriteHeader(http.StatusAccepted)
	}), nil
}
