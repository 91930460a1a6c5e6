package kernel

import "time"

// ConfigResult is what `bisect-config` reports: the options that make a test fail,
// out of those in which two configurations of one commit differ.
type ConfigResult struct {
	Schema  string       `json:"schema"` // kbisect/bisect-config/v1
	ID      string       `json:"id"`
	Status  BisectStatus `json:"status"` // found, set, not-reproduced, inconclusive, searching
	Profile string       `json:"profile"`
	Test    string       `json:"test"`
	Commit  Commit       `json:"commit"`
	Good    string       `json:"good"` // path of the .config as it was given
	Bad     string       `json:"bad"`
	// Options are those in which the kernels of the two ends differ, in the order
	// of the .config; Left out are those in which only the given files do.
	Options []ConfigOption `json:"options"`
	LeftOut []ConfigOption `json:"left_out,omitempty"`
	// Culprits are the options that the test fails with: all of them are needed.
	Culprits []ConfigCulprit `json:"culprits"`
	// Brings are what takes the bad end's value with them, without being asked for.
	Brings    []string     `json:"brings,omitempty"`
	Signature Signature    `json:"signature,omitzero"`
	FailRate  Interval     `json:"fail_rate,omitzero"` // of the bad end
	Runs      int          `json:"runs"`
	Builds    int          `json:"builds"`
	Seconds   float64      `json:"seconds"`
	Steps     []ConfigStep `json:"steps"`
	Reason    string       `json:"reason"` // why it stopped, in one sentence
	Host      Host         `json:"host"`
	Allowed   []Allowed    `json:"allowed,omitempty"`
	Carried   []Carried    `json:"carried,omitempty"`
	Command   string       `json:"command"`
	Started   time.Time    `json:"started"`
}

// ConfigOption is a symbol with its values on both ends, as in a .config: "n" for
// one that is not set.
type ConfigOption struct {
	Symbol string `json:"symbol"` // without CONFIG_
	Good   string `json:"good"`
	Bad    string `json:"bad"`
	Why    string `json:"why,omitempty"` // it is left out
}

// ConfigCulprit is an option that was found, with what putting it back did.
type ConfigCulprit struct {
	ConfigOption
	// Without is the verdict of the others without this one: good where it is
	// needed for sure.
	Without Verdict `json:"without"`
	// NeededBy are other culprits that do not take effect without it.
	NeededBy []string `json:"needed_by,omitempty"`
	Reason   string   `json:"reason,omitempty"` // why Without is not good
}

// ConfigStep is one configuration that was tried, in order.
type ConfigStep struct {
	Why    string   `json:"why"`              // bad end, good end, search
	Asked  []string `json:"asked"`            // symbols that were to have the bad end's value; of an end none
	Missed []string `json:"missed,omitempty"` // those that did not come about
	Brings []string `json:"brings,omitempty"` // what did without being asked for
	// Outcome is good, bad, untestable or inconclusive: of the kernel. A good one
	// of which something was missed says nothing about what was asked for.
	Outcome   Verdict   `json:"outcome"`
	Build     string    `json:"build"` // built, cached, failed
	Runs      int       `json:"runs"`
	Fails     int       `json:"fails"`
	Other     int       `json:"other,omitempty"` // runs that failed in another way: no evidence
	Signature Signature `json:"signature,omitzero"`
	Reason    string    `json:"reason,omitempty"`
	Log       string    `json:"log,omitempty"`
	Output    string    `json:"output,omitempty"` // of the first bad run
	Console   string    `json:"console,omitempty"`
	Seconds   float64   `json:"seconds"`
}
