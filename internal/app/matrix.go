package app

import (
	"context"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// runMatrix carries out a check of several kernels, records it and reports it.
func (o *options) runMatrix(ctx context.Context, p planFlags, s subjectFlags) error {
	req, err := p.request(ctx, o, "matrix")
	if err != nil {
		return err
	}
	ready, err := s.readyKernels(&req)
	if err != nil {
		return err
	}
	plan, err := req.plan()
	if err != nil {
		return err
	}
	ws, err := o.openWorkspace(ctx)
	if err != nil {
		return err
	}
	defer ws.close()
	kernels := make([]kernel.Kernel, len(ready))
	for i := range ready {
		if err := ready[i].pack(ws.cache, req.Files); err != nil {
			return err
		}
		kernels[i] = ready[i].kernel
	}
	id, err := ws.newJob(ctx, req)
	if err != nil {
		return err
	}
	defer o.abandon(ctx, ws, id)
	b, err := o.newBench(ctx, ws, id, req, nil)
	if err != nil {
		return err
	}
	defer b.close()
	res := &kernel.MatrixResult{Schema: "kbisect/matrix/v1", ID: id, Status: store.Interrupted, Profile: b.profile.Name, Host: b.host, Allowed: req.Allowed, Command: req.Command, Started: b.started}
	ended := func(status string) bool {
		res.Status = status
		return len(res.Kernels[0].Tests) > 0
	}
	err = o.carryOut(ctx, b, growing{res, &res.Seconds, nil, ended}, func(update func()) error {
		return b.lab.Matrix(ctx, kernels, plan, res, update)
	})
	if err != nil {
		return err
	}
	return matrixStatus(res)
}

// matrixStatus is checkStatus over all kernels.
func matrixStatus(res *kernel.MatrixResult) error {
	var all []kernel.TestResult
	for _, k := range res.Kernels {
		all = append(all, k.Tests...)
	}
	return checkStatus(all)
}
