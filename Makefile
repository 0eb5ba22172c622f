# Two commands matter: `make up` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help up down test bench check generate fmt

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

up: ## from a fresh clone to a working system (CONTEXT=<kubectl context> IMAGE_REPOSITORY=<repo> for an existing cluster)
	@CONTEXT="$(CONTEXT)" IMAGE_REPOSITORY="$(IMAGE_REPOSITORY)" e2e/up.sh

down: ## remove every trace of `make up`
	@CONTEXT="$(CONTEXT)" e2e/down.sh

test: ## everything that proves the product; ends with a table
	@e2e/test.sh

bench: ## figures beside those of peers, measured in the same run (release builds)
	@e2e/bench.sh

check: ## the quick checks: format, lints, generated files, tidy
	@e2e/test.sh --only format,programs,generated,tidy,lint

generate: ## write the CRDs, the chart's copies and the reference pages anew
	@cargo xtask generate

fmt: ## format everything
	@cargo fmt --all
	@gofmt -w e2e/cluster
