// Package archtest holds the structure of the program as tests: which package
// may import which, and that each says what it is for. It has no code of its own.
package archtest
