package queue

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
)

// version is that of every message below. A change that an older worker would
// misread raises it; both sides refuse what they do not speak.
const version = 1

// metaHeader carries the description of a task or an answer as JSON beside its
// bytes, so that 8 MiB of body are neither escaped nor copied.
const metaHeader = "Kbisect"

// MaxBody is the limit of a task's and of an answer's bytes.
const MaxBody = 8 << 20

// Priorities are 0 (the most urgent) to MaxPriority.
const MaxPriority = 9

// The subjects; a worker's name or a stream's follows.
const (
	taskSubject   = "t."      // + stream.priority.class.job.key, in JetStream
	startSubject  = "start."  // worker asks whether it may run the delivery it got
	beatSubject   = "beat."   // worker says that it lives and what it holds
	answerSubject = "answer." // worker answers a task
	backSubject   = "back."   // worker hands a task back in order
	reportSubject = "report." // worker says how far it is with a task
	cancelSubject = "cancel." // server tells a worker which task to stop
	bellSubject   = "bell"    // server tells all that there may be work
	anyStream     = "ANY"     // tasks for any worker; W_name holds those for one
)

// Task is one piece of work. (Job, Attempt, Seq) names it: a second try of an
// answered task is a new attempt.
type Task struct {
	Job      string
	Attempt  int
	Seq      int
	Priority int      // 0 first, at most MaxPriority
	Kind     string   // for the handler and the worker list; the queue does not read it
	Needs    []string // labels that a worker must have: "arch:x86_64", "accel:tcg"
	Worker   string   // the only worker that may have it, "" any
	Body     []byte   // at most MaxBody

	// Progress is told how far the worker is; Do's caller sets it, or leaves it
	// nil. Words may get lost.
	Progress func([]byte)
	// Report is how a handler says it; it is never nil there. At most 64 KiB.
	Report func([]byte)
}

func (t Task) String() string {
	return fmt.Sprintf("task %s/%d/%d", t.Job, t.Attempt, t.Seq)
}

// Answer is what a worker made of a task. Err is the error of its handler; what
// kept the queue from delivering is the error of Do.
type Answer struct {
	Worker string
	Body   []byte
	Err    string
}

// meta describes a task, and the task that an answer belongs to.
type meta struct {
	V        int      `json:"v"`
	Job      string   `json:"job"`
	Attempt  int      `json:"attempt"`
	Seq      int      `json:"seq"`
	Priority int      `json:"priority,omitempty"`
	Kind     string   `json:"kind,omitempty"`
	Needs    []string `json:"needs,omitempty"`
	Worker   string   `json:"worker,omitempty"`
	Err      string   `json:"err,omitempty"` // of an answer
}

// Announce is what a worker offers.
type Announce struct {
	Version string   `json:"version"` // of its program, for people
	Labels  []string `json:"labels"`  // what it has
	Slots   int      `json:"slots"`   // tasks at once
}

func (a Announce) meets(needs []string) bool {
	for _, n := range needs {
		if !slices.Contains(a.Labels, n) {
			return false
		}
	}
	return true
}

// held is a delivery that a worker has. Delivery counts from 1; the highest one
// has the lease.
type held struct {
	Key      string `json:"key"`
	Delivery int    `json:"delivery"`
	Ack      string `json:"ack,omitempty"` // when it starts: subject of its acknowledgements
}

// beat is a worker's heartbeat, and with Bye its farewell.
type beat struct {
	V        int      `json:"v"`
	Instance string   `json:"instance"` // of the process: no two workers share a name
	Announce Announce `json:"announce"`
	Held     []held   `json:"held"`
	Bye      bool     `json:"bye,omitempty"`
}

// beatReply tells a worker which of its tasks to stop, where to look for new
// ones (in order of priority) and how long a lease lives without heartbeat.
type beatReply struct {
	V       int      `json:"v"`
	Err     string   `json:"err,omitempty"`
	Taken   bool     `json:"taken,omitempty"` // another process has the name now
	Stop    []string `json:"stop,omitempty"`  // keys
	Pull    []string `json:"pull,omitempty"`  // stream.consumer
	Classes int      `json:"classes"`         // the bell carries it too: a new number, a new list
	AckWait int64    `json:"ack_wait_ms"`
}

// Replies to start and answer.
const (
	replyOK      = "ok"
	replyDrop    = "drop"    // withdrawn, answered, or leased to another
	replyUnknown = "unknown" // no heartbeat of this worker yet
	replyBack    = "back"    // it is for another: hand it back, and ask what is for you
)

// encode marshals one of the types above.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return b
}

// decodeMeta reads the description of a message from the other side.
func decodeMeta(m *nats.Msg) (meta, error) {
	var d meta
	if err := json.Unmarshal([]byte(m.Header.Get(metaHeader)), &d); err != nil {
		return d, fmt.Errorf("message without a description: %w", err)
	}
	return d, checkVersion(d.V)
}

func checkVersion(v int) error {
	if v != version {
		return fmt.Errorf("message of version %d, this program speaks %d: run the same release on both sides", v, version)
	}
	return nil
}

func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:12])
}

// key names a task on the wire: a job's name may hold what a subject may not.
func key(job string, attempt, seq int) string {
	return hash(job, strconv.Itoa(attempt), strconv.Itoa(seq))
}

// parseAck reads how often a message was delivered from its acknowledgement
// subject, $JS.ACK.stream.consumer.delivered.sseq.cseq.time.pending.
func parseAck(subject string) (delivery int, err error) {
	f := strings.Split(subject, ".")
	if len(f) != 9 || f[0] != "$JS" || f[1] != "ACK" {
		return 0, errors.New("not a delivery of JetStream: " + strconv.Quote(subject))
	}
	return strconv.Atoi(f[4])
}

var nameRE = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// checkName refuses worker names that could reach into another's subjects.
func checkName(name string) error {
	if !nameRE.MatchString(name) {
		return fmt.Errorf("worker name %q: want 1 to 64 letters, digits, - or _", name)
	}
	return nil
}
