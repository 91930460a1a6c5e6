package github

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	gh "github.com/google/go-github/v57/github"

	"github.com/kernel-bisect/kbisect/internal/outbox"
)

// politely is how long to wait where GitHub gives no time.
// Source: docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit.
const politely = time.Minute

// judge turns an error of the library into one of the outbox where it says what
// to do: wait, or never send that again. Other errors stay what they are.
func judge(err error) error {
	var limit *gh.RateLimitError
	var secondary *gh.AbuseRateLimitError
	var answer *gh.ErrorResponse
	var network *url.Error
	switch {
	case errors.As(err, &limit):
		return &outbox.Busy{Until: limit.Rate.Reset.Add(time.Second), Why: "the rate limit is reached"}
	case errors.As(err, &secondary):
		wait := politely
		if d := secondary.GetRetryAfter(); d > 0 {
			wait = d
		}
		return &outbox.Busy{Until: time.Now().Add(wait), Why: "the secondary rate limit is reached"}
	case errors.As(err, &network):
		return fmt.Errorf("GitHub cannot be reached: %w", network.Err)
	case !errors.As(err, &answer) || answer.Response == nil:
		return err
	}
	why := said(answer)
	switch code := answer.Response.StatusCode; {
	case code == http.StatusTooManyRequests || code == http.StatusForbidden && strings.Contains(strings.ToLower(answer.Message), "rate limit"):
		return &outbox.Busy{Until: time.Now().Add(retryAfter(answer.Response)), Why: why}
	case code == http.StatusForbidden, code == http.StatusNotFound, code == http.StatusGone, code == http.StatusUnprocessableEntity:
		return &outbox.Refused{Why: why}
	}
	return errors.New(why) // the library's has the whole URL
}

func retryAfter(r *http.Response) time.Duration {
	if s, err := strconv.Atoi(r.Header.Get("Retry-After")); err == nil && s >= 0 {
		return time.Duration(s) * time.Second
	}
	return politely
}

// said is what GitHub answered, on one line.
func said(e *gh.ErrorResponse) string {
	parts := []string{strconv.Itoa(e.Response.StatusCode), e.Message}
	for _, x := range e.Errors {
		parts = append(parts, strings.TrimSpace(x.Field+" "+x.Code+" "+x.Message))
	}
	why := "GitHub answers " + strings.Join(parts, " ")
	if r := e.Response.Request; r != nil {
		why += " to " + r.Method + " " + r.URL.Path
	}
	return strings.Join(strings.Fields(why), " ")
}

// notFound says whether GitHub answered that there is no such thing.
func notFound(err error) bool {
	var answer *gh.ErrorResponse
	return errors.As(err, &answer) && answer.Response != nil &&
		(answer.Response.StatusCode == http.StatusNotFound || answer.Response.StatusCode == http.StatusGone)
}
