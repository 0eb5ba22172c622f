package main

import (
	"context"
	"errors"
)

func push(context.Context, []string) error          { return errors.New("x") }
func serveRegistry(context.Context, []string) error { return errors.New("x") }
func selftest(context.Context, []string) error      { return errors.New("x") }
func probe(context.Context, []string) error         { return errors.New("x") }
