package main

const (
	apiPkg, webPkg, githubPkg = "./internal/api", "./internal/web", "./internal/github"
	appPkg, artifactPkg       = "./internal/app", "./internal/artifact"
	qemuPkg, guestPkg         = "./internal/qemu", "./internal/guest"
	kbuildPkg, gitrepoPkg     = "./internal/kbuild", "./internal/gitrepo"
	reportPkg, protoPkg       = "./internal/report", "./internal/agentproto"
)

var defences = []defence{
	// The service.
	{"secrets of tokens are compared", "internal/api/token.go", `subtle.ConstantTimeCompare(got[:], t.Hash[:]) != 1 || `, `len(got) != subtle.ConstantTimeEq(1, 0)+len(got) || `, apiPkg, `^TestAuthenticate$`},
	{"tokens expire", "internal/api/token.go", ` || !t.Expires.IsZero() && !now.Before(t.Expires)`, ``, apiPkg, `^TestAuthenticate$`},
	{"tokens have scopes", "internal/api/guard.go", `case given && !x.token.Allows(want):`, `case false:`, apiPkg, `^TestRoutesAndTokens$`},
	{"a token is needed", "internal/api/guard.go", `case !given && (want != Read || !s.AnonymousRead):`, `case false:`, apiPkg, `^TestRoutesAndTokens$`},
	{"requests have a rate", "internal/api/guard.go", `if d := s.limit.wait(who); d > 0 {`, `if d := s.limit.wait(who); d < 0 {`, apiPkg, `^TestRateLimit$`},
	{"guesses have a rate", "internal/api/guard.go", `if d := s.limit.wait(who); d > 0 {`, `if d := s.limit.wait(who); d > 0 && authErr == nil {`, apiPkg, `^TestGuessing$`},
	{"an address of IPv6 is its /64", "internal/api/limit.go", `a.Prefix(64)`, `a.Prefix(128)`, apiPkg, `^Test`},
	{"the table of callers is bounded", "internal/api/limit.go", `if l.recent.Len() > maxCallers {`, `if false {`, apiPkg, `^Test`},
	{"bodies have a length", "internal/api/guard.go", `if limit := ctx.Operation().MaxBodyBytes; limit > 0 {`, `if limit := ctx.Operation().MaxBodyBytes; limit < 0 {`, apiPkg, `^Test`},
	{"uploads have a length", "internal/api/upload.go", `	case n > limit:`, `	case false:`, apiPkg, `^TestUploads$`},
	{"a field comes once", "internal/api/upload.go", `if seen[name] {`, `if false {`, apiPkg, `^TestUploads$`},
	{"fields are described", "internal/api/upload.go", `	if len(res.Errors) > 0 {`, `	if false {`, apiPkg, `^TestSubmitRejects$`},
	{"streams are counted", "internal/api/events.go", `if s.streams.Add(1) > maxStreams {`, `if s.streams.Add(1) < 0 {`, apiPkg, `^TestFollowStops$`},
	{"a broken handler is caught", "internal/api/guard.go", `	case p != nil:
		s.Log.Error("request broke"`, `	case false:
		s.Log.Error("request broke"`, apiPkg, `^TestPanic$`},
	{"other names are turned away", "internal/web/guard.go", `if len(hosts) > 0 && !slices.Contains(hosts, r.Host) {`, `if len(hosts) > 0 && slices.Contains(hosts, "") {`, webPkg, `^TestHosts$`},
	{"other sites are turned away", "internal/web/guard.go", `origin.Handler(next)`, `next`, webPkg, `^TestForgery$`},
	{"pages have a policy", "internal/web/guard.go", `h.Set("Content-Security-Policy", policy)`, `_ = policy`, webPkg, `^TestPolicy$`},
	{"pages that are read change nothing", "internal/web/web.go", `o.ReadOnly = o.ReadOnly || o.Doer == nil`, `o.ReadOnly = o.Doer == nil`, webPkg, `^TestReadOnly$`},
	{"who looks on is counted", "internal/web/web.go", `make(chan struct{}, o.MaxClients)`, `make(chan struct{}, o.MaxClients+1000)`, webPkg, `^Test`},
	{"a slow reader is dropped", "internal/web/hub.go", `		default:
			h.drop(r)`, `		default:`, webPkg, `^Test`},
	{"artifacts are called by digests", "internal/artifact/artifact.go", ` && digestForm.MatchString(digest)`, ` && (digestForm.MatchString(digest) || len(digest) > 2)`, artifactPkg, `^TestValid$`},
	{"artifacts are what their digest says", "internal/artifact/artifact.go", `if errors.Is(err, io.EOF) && hex.EncodeToString(c.hash.Sum(nil)) != c.want {`, `if false && hex.EncodeToString(c.hash.Sum(nil)) != c.want {`, artifactPkg, `^Test`},
	{"an artifact is no page", "internal/api/artifacts.go", `h.Set("Content-Security-Policy", "default-src 'none'; sandbox")`, ``, apiPkg, `^Test`},
	{"deliveries are signed", "internal/github/webhook.go", `	case err != nil: // also a content type that GitHub does not send`, `	case err != nil && len(body) > 0: // also a content type that GitHub does not send`, githubPkg, `^TestWebhook$`},
	{"a signature is of SHA-256", "internal/github/webhook.go", `if !strings.HasPrefix(signature, "sha256=") {`, `if !strings.HasPrefix(signature, "sha") {`, githubPkg, `^TestWebhook$`},
	{"a webhook has a secret", "internal/github/webhook.go", `if len(secret) == 0 {`, `if secret == nil && len(secret) > 0 {`, githubPkg, `^Test`},
	{"ok is for what was there when it was said", "internal/pulls/answer.go", `!now.Pushed.Before(e.At)`, `false`, "./internal/pulls", `^TestApproval$`},
	{"deliveries are counted", "internal/github/webhook.go", `make(chan struct{}, atOnce)`, `make(chan struct{}, 10*atOnce)`, githubPkg, `^TestWebhookAtOnce$`},
	{"deliveries have a length", "internal/github/webhook.go", `http.MaxBytesReader(w, r.Body, maxPayload)`, `http.MaxBytesReader(w, r.Body, maxPayload<<10)`, githubPkg, `^TestWebhook$`},
	{"deliveries have a time", "internal/github/webhook.go", `SetReadDeadline(time.Now().Add(readWithin))`, `SetReadDeadline(time.Now().Add(time.Hour))`, githubPkg, `^TestWebhookInTime$`},
	{"half a header is let go", "internal/app/serve.go", `ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 5 * time.Minute,`, ``, appPkg, `^TestServerLetsGo$`},
	{"an answer that nobody reads is let go", "internal/app/serve.go", ` WriteTimeout: 5 * time.Minute,`, ``, appPkg, `^TestServerLetsGo$`},
	{"a connection that asks nothing is let go", "internal/app/serve.go", ` IdleTimeout: 2 * time.Minute,`, ` IdleTimeout: 2 * time.Hour,`, appPkg, `^TestServerLetsGo$`},
	{"headers have a length", "internal/app/serve.go", `MaxHeaderBytes: 64 << 10,`, ``, appPkg, `^TestServerLetsGo$`},

	// Patches and what is said of them.
	{"the user's hooks are not run", "internal/gitrepo/gitrepo.go", `"GIT_CONFIG_GLOBAL=/dev/null", ` + and + `"-c", "core.hooksPath=/dev/null", `, and, gitrepoPkg, `^TestHostilePatches$`},
	{"the user's filters are not run", "internal/gitrepo/gitrepo.go", `"GIT_CONFIG_GLOBAL=/dev/null", ` + and + `filepath.Join(r.mirror, "info", "attributes")`, and + `filepath.Join(r.mirror, "info", "other")`, gitrepoPkg, `^TestHostilePatches$`},
	{"attributes end with their commit", "internal/gitrepo/gitrepo.go", `filepath.Join(r.mirror, "info", "attributes")`, `filepath.Join(r.mirror, "info", "other")`, gitrepoPkg, `^TestAttributesEnd$`},
	{"mails are counted", "internal/gitrepo/mail.go", `; most > patchmail.MaxMessages {`, `; most < 0 {`, gitrepoPkg, `^TestTooMuchMail$`},
	{"mail has a length", "internal/gitrepo/mail.go", `	case len(text) > MaxMail:`, `	case false:`, gitrepoPkg, `^TestTooMuchMail$`},
	{"what git says has a length", "internal/gitrepo/mail.go", `if len(line) > mostSaid {`, `if false {`, gitrepoPkg, `^TestHostilePatches$`},
	{"a commit with a .git is to blame", "internal/gitrepo/worktree.go", `strings.HasPrefix(ge.stderr, "error: invalid path ")`, `strings.HasPrefix(ge.stderr, "never")`, gitrepoPkg, `^TestHostileTrees$`},
	{"one that cannot be checked out does not build", "internal/kbuild/kbuild.go", `errors.As(err, &bad) && ctx.Err() == nil`, `errors.As(err, &bad) && ctx.Err() != nil`, kbuildPkg, `^TestCommitThatCannotBeCheckedOut$`},

	// Builds.
	{"builds have no network", "internal/kbuild/sandbox.go", `"--unshare-all", `, `"--unshare-all", "--share-net", `, kbuildPkg, `^TestHostileBuilds$/^connects`},
	{"/proc/sys is read-only", "internal/kbuild/sandbox.go", `		"--remount-ro", "/proc",
`, ``, kbuildPkg, `^TestHostileBuilds$/^writes_to_the_kernel`},
	{"sources are read-only", "internal/kbuild/sandbox.go", `[]string{"--ro-bind", b.Source.Dir(), sandboxSrc}`, `[]string{"--bind", b.Source.Dir(), sandboxSrc}`, kbuildPkg, `^TestHostileBuilds$/^writes_to_the_sources`},
	{"the system is read-only", "internal/kbuild/sandbox.go", `a = append(a, "--ro-bind-try", d, d)
	}
	for`, `a = append(a, "--bind-try", d, d)
	}
	for`, kbuildPkg, `^TestHostileBuilds$/^writes_to_the_system`},
	{"the environment is a build's own", "internal/kbuild/sandbox.go", `environ = buildEnv(b.Sandbox, env)`, `environ = append(os.Environ(), buildEnv(b.Sandbox, env)...)`, kbuildPkg, `^TestHostileBuilds$/^reads_secrets`},
	{"a build has no other processes", "internal/kbuild/sandbox.go", `"--proc", "/proc", `, `"--bind", "/proc", "/proc", `, kbuildPkg, `^TestHostileBuilds$/^(looks|traces|stops)`},
	{"processes are counted", "internal/kbuild/limits.go", `case u.processes > l.Processes:`, `case false:`, kbuildPkg, `^TestHostileBuilds$/^a_fork_bomb`},
	{"memory is counted", "internal/kbuild/limits.go", `case u.memory > l.Memory:`, `case false:`, kbuildPkg, `^TestHostileBuilds$/^(allocates|fills_tmp|fills_shm)`},
	{"memory in files is counted", "internal/kbuild/guard.go", `u.memory += int64(st.Blocks-st.Bfree) * st.Bsize`, `_ = st.Bsize`, kbuildPkg, `^TestHostileBuilds$/^(fills_tmp|fills_shm)`},
	{"the disk is counted", "internal/kbuild/limits.go", `case u.disk > l.Disk:`, `case false:`, kbuildPkg, `^TestHostileBuilds$/^fills_the_disk$`},
	{"files are counted", "internal/kbuild/limits.go", `case u.files > l.Files:`, `case false:`, kbuildPkg, `^TestHostileBuilds$/^fills_the_disk_with_files`},
	{"a file has a size", "internal/kbuild/limits.go", `		unix.RLIMIT_FSIZE: uint64(l.File), //nolint:gosec // never negative
`, ``, kbuildPkg, `^TestHostileBuilds$/^makes_a_huge_file`},
	{"an idle build is stopped", "internal/kbuild/limits.go", `case u.idle > l.Idle:`, `case false:`, kbuildPkg, `^TestHostileBuilds$/^(sleeps|stops)`},
	{"output is counted", "internal/kbuild/make.go", `m.printed > m.b.limits().Output && m.stop != nil`, `false && m.stop != nil`, kbuildPkg, `^TestHostileBuilds$/^prints`},
	{"a slot is closed to others", "internal/kbuild/inside.go", `err = os.Chmod(slot, 0o700)`, `err = os.Chmod(slot, 0o755)`, kbuildPkg, `^TestHostileBuilds$/^plants_a_setuid`},
	{"strangers' kernels are their own", "internal/kbuild/key.go", `if err != nil || b.Apart == "" {`, `if err != nil || b.Apart != "x" {`, kbuildPkg, `^Test`},

	// Guests.
	{"a line has a length", "internal/agentproto/agentproto.go", `if !tooLong && len(line)+len(part) > MaxLine {`, `if false {`, protoPkg, `^Test`},
	{"messages have a version", "internal/agentproto/agentproto.go", `if m.V != Version {`, `if false {`, protoPkg, `^Test`},
	{"an answer is of its run", "internal/guest/guest.go", `|| in.err == nil && in.msg.ID != id:`, `:`, guestPkg, `^TestRun$`},
	{"garbage is counted", "internal/guest/guest.go", `e.Garbage >= maxGarbage`, `e.Garbage < 0`, guestPkg, `^TestRun$`},
	{"output has a length", "internal/guest/guest.go", `room := MaxOutput - len(e.Output)`, `room := len(in.msg.Output)`, guestPkg, `^TestRun$`},
	{"a console is kept in part", "internal/qemu/capture.go", `if len(c.tail) > 2*maxTail {`, `if false {`, qemuPkg, `^TestCaptureIsBounded$`},
	{"QEMU has no sockets", "internal/qemu/cell.go", `unix.SYS_SOCKET, `, ``, qemuPkg, `^TestEscapedGuest$`},
	{"QEMU traces nobody", "internal/qemu/cell.go", `unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, ` + and + `		cmd.SysProcAttr.Credential = c.user
`, and, qemuPkg, `^TestEscapedGuest$`},
	{"QEMU has no keys", "internal/qemu/cell.go", `unix.SYS_KEYCTL, `, ``, qemuPkg, `^TestEscapedGuest$`},
	{"QEMU makes no memory in files", "internal/qemu/cell.go", `unix.SYS_MEMFD_CREATE, `, ``, qemuPkg, `^TestEscapedGuest$`},
	{"QEMU has a bound of memory", "internal/qemu/cell.go", `limit("as", unix.RLIMIT_AS, ram+c.own+int64(m.CPUs)*cpuMemory), `, ``, qemuPkg, `^TestBound$`},
	{"QEMU has its files alone", "internal/qemu/cell.go", `	if c.landlock > 0 {
		if err`, `	if c.landlock < 0 {
		if err`, qemuPkg, `^TestEscapedGuest$`},
	{"QEMU is another user", "internal/qemu/cell.go", `		cmd.SysProcAttr.Credential = c.user
`, ``, qemuPkg, `^TestEscapedGuest$`},
	{"snapshots are sealed", "internal/qemu/snapshot.go", `if err := seal(f); err != nil {`, `if err := f.Sync(); err != nil && false {`, qemuPkg, `^TestEscapedGuest$`},
}
