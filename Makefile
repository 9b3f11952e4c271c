# Every target is one line; what CI runs is what `make` runs.
GOLANGCI_LINT = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: build man lambda test deps lint fuzz bench cover screenshots release clean

build: ; CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/spekeasy ./cmd/spekeasy
man: build ; bin/spekeasy man bin/man
lambda: ; mkdir -p bin && go run ./internal/release -lambda bin
test: deps build lint ; ./scripts/test.sh
deps: ; ./scripts/testdeps.sh
lint: bin/golangci-lint ; go vet ./... && bin/golangci-lint run ./...
fuzz: ; ./scripts/fuzz.sh 1m
bench: build ; go test -run '^$$' -bench . -benchmem ./internal/server ./cpix && go run ./internal/bench
cover: ; go test -coverpkg ./... -coverprofile cover.out ./... && go tool cover -func cover.out | tail -1
screenshots: deps ; go test -count=1 ./internal/demo -run '^Test(Page|Tickets)$$' -args -screenshots "$(CURDIR)/docs/images"
release: ; rm -rf dist && go run ./internal/release
clean: ; rm -rf bin dist cover.out

bin/golangci-lint: ; GOBIN=$(CURDIR)/bin go install $(GOLANGCI_LINT)
