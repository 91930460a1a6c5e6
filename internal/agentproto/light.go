package agentproto

import (
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/valyala/fastjson"
)

// The guest's half of the protocol, by less code than encoding/json takes: under TCG
// each block of code that a guest reaches for the first time is translated, in each
// forked guest anew. Reflection was 700 of the 15,700 blocks of a run, and 1,500 of the
// 15,900 from init to hello (QEMU's log in_asm, 2026-11). What is said is the same:
// tests hold it to what encoding/json makes of a Message.

// EncodeReply is Encode for the messages of the guest.
func EncodeReply(w io.Writer, m Message) error {
	o := object(`{"v":` + strconv.Itoa(Version))
	o.text("type", string(m.Type))
	if m.ID != "" {
		o.text("id", m.ID)
	}
	if h := m.Hello; h != nil {
		o.begin("hello")
		o.text("release", h.Release)
		o.text("config_crc", h.ConfigCRC)
		o.number("cpus", int64(h.CPUs))
		o.number("memory_kib", h.MemoryKiB)
		o.number("swap_kib", h.SwapKiB)
		o.numbers("thp_sizes", h.THPSizes)
		o.numbers("hugetlb", h.HugetlbSizes)
		o.texts("features", h.Features)
		o.texts("problems", h.Problems)
		o.end()
	}
	if len(m.Output) > 0 {
		o.key("output")
		o = append(base64.StdEncoding.AppendEncode(append(o, '"'), m.Output), '"')
	}
	if r := m.Result; r != nil {
		o.begin("result")
		o.number("exit", int64(r.Exit))
		if r.Signal != "" {
			o.text("signal", r.Signal)
		}
		if r.TimedOut {
			o.yes("timed_out")
		}
		if r.Truncated {
			o.yes("truncated")
		}
		if r.Error != "" {
			o.text("error", r.Error)
		}
		o.number("wall_ms", r.WallMS)
		o.end()
	}
	o.end()
	if len(o) >= MaxLine {
		return fmt.Errorf("encode %s: %d bytes exceed the limit of %d", m.Type, len(o), MaxLine)
	}
	_, err := w.Write(append(o, '\n'))
	return err
}

// object is a JSON object that is being written.
type object []byte

func (o *object) key(name string) {
	if b := *o; b[len(b)-1] != '{' {
		*o = append(b, ',')
	}
	*o = append(append(append(*o, '"'), name...), `":`...)
}

func (o *object) begin(name string) {
	o.key(name)
	*o = append(*o, '{')
}

func (o *object) end() { *o = append(*o, '}') }

func (o *object) text(name, value string) {
	o.key(name)
	o.quote(value)
}

func (o *object) number(name string, n int64) {
	o.key(name)
	*o = strconv.AppendInt(*o, n, 10)
}

func (o *object) yes(name string) {
	o.key(name)
	*o = append(*o, "true"...)
}

func (o *object) texts(name string, values []string) {
	list(o, name, values, o.quote)
}

func (o *object) numbers(name string, values []int64) {
	list(o, name, values, func(n int64) { *o = strconv.AppendInt(*o, n, 10) })
}

func list[T any](o *object, name string, values []T, add func(T)) {
	o.key(name)
	*o = append(*o, '[')
	for i, v := range values {
		if i > 0 {
			*o = append(*o, ',')
		}
		add(v)
	}
	*o = append(*o, ']')
}

// quote writes a string of JSON (RFC 8259, 7). What is no UTF-8 becomes U+FFFD.
func (o *object) quote(s string) {
	const hex = "0123456789abcdef"
	b := append(*o, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	*o = append(b, '"')
}

// NextRequest is Next for the messages of the host.
func (r *Reader) NextRequest() (Message, error) {
	line, err := r.line()
	if err != nil {
		return Message{}, err
	}
	var p fastjson.Parser
	v, err := p.ParseBytes(line)
	if err != nil {
		return Message{}, fmt.Errorf("%w: %w", ErrGarbage, err)
	}
	f := fields{o: v.GetObject()}
	m := Message{V: int(f.number("v")), Type: Type(f.text("type")), ID: f.text("id")}
	switch m.Type {
	case TypePrepare:
		if in := f.object("prepare"); in != nil {
			m.Prepare = &Prepare{Argv: in.texts("argv")}
			f.is(in.ok())
		}
	case TypeWake:
		if in := f.object("wake"); in != nil {
			entropy, err := base64.StdEncoding.DecodeString(in.text("entropy"))
			m.Wake = &Wake{Entropy: entropy}
			f.is(in.ok() && err == nil)
		}
	case TypeRun:
		if in := f.object("run"); in != nil {
			m.Run = &Run{Argv: in.texts("argv"), TimeoutMS: in.number("timeout_ms"), MaxOutput: in.number("max_output")}
			f.is(in.ok())
		}
	}
	if !f.ok() {
		return Message{}, fmt.Errorf("%w: a %q message with members of another type", ErrGarbage, clip(string(m.Type)))
	}
	if err := m.check(); err != nil {
		return Message{}, err
	}
	return m, nil
}

// fields reads the members of an object. One that is of another type than what is
// asked for makes it bad; one that there is not is empty.
type fields struct {
	o   *fastjson.Object
	bad bool
}

func (f *fields) ok() bool     { return f.o != nil && !f.bad }
func (f *fields) is(good bool) { f.bad = f.bad || !good }

func (f *fields) get(name string, t fastjson.Type) *fastjson.Value {
	if f.o == nil {
		return nil
	}
	v := f.o.Get(name)
	if v == nil || v.Type() == fastjson.TypeNull {
		return nil
	}
	f.is(v.Type() == t)
	return v
}

func (f *fields) text(name string) string {
	return string(f.get(name, fastjson.TypeString).GetStringBytes())
}

func (f *fields) number(name string) int64 {
	v := f.get(name, fastjson.TypeNumber)
	if v == nil {
		return 0
	}
	n, err := v.Int64()
	f.is(err == nil)
	return n
}

func (f *fields) texts(name string) (out []string) {
	for _, v := range f.get(name, fastjson.TypeArray).GetArray() {
		f.is(v.Type() == fastjson.TypeString)
		out = append(out, string(v.GetStringBytes()))
	}
	return out
}

func (f *fields) object(name string) *fields {
	v := f.get(name, fastjson.TypeObject)
	if v == nil {
		return nil
	}
	return &fields{o: v.GetObject()}
}
