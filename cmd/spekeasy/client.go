package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"spekeasy/adminapi"
)

// clientFlags say which server's admin API a command speaks to, and as whom.
type clientFlags struct {
	server, credentialFile string
	asJSON                 bool
}

const clientHelp = "\n\nThe command speaks to the admin API of a running server: --server or SPEKEASY_SERVER is its URL, by\n" +
	"default http://127.0.0.1:8081. Who you are is NAME:PASSWORD of an admin credential, in the environment\n" +
	"variable SPEKEASY_ADMIN or in the first line of --credential-file. The first admin is root, whose\n" +
	"password `spekeasy init` prints; that of `spekeasy serve --dev` is dev:dev."

func (f *clientFlags) add(cmd *cobra.Command) {
	fl := cmd.PersistentFlags()
	fl.StringVar(&f.server, "server", "", "`URL` of the server's admin listener; by default $SPEKEASY_SERVER or http://127.0.0.1:8081")
	fl.StringVar(&f.credentialFile, "credential-file", "", "`file` with NAME:PASSWORD of an admin credential; by default $SPEKEASY_ADMIN has it")
	fl.BoolVar(&f.asJSON, "json", false, "print JSON")
}

// clientTimeout is how long an answer may take.
const clientTimeout = time.Minute

func (f *clientFlags) client(e *env) (*adminapi.Client, error) {
	server := f.server
	if server == "" {
		server, _ = e.lookup("SPEKEASY_SERVER")
	}
	if server == "" {
		server = "http://127.0.0.1:8081"
	}
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, errors.New("--server: want a URL such as http://127.0.0.1:8081, without user and password")
	}
	credential, _ := e.lookup("SPEKEASY_ADMIN")
	if f.credentialFile != "" {
		if credential, err = readSecretFile(f.credentialFile); err != nil {
			return nil, fmt.Errorf("--credential-file: %w", err)
		}
	}
	name, password, ok := strings.Cut(credential, ":")
	if !ok || name == "" {
		return nil, errors.New("no admin credential: set SPEKEASY_ADMIN to NAME:PASSWORD, or give --credential-file")
	}
	return &adminapi.Client{Server: server, Name: name, Password: adminapi.Secret(password), HTTP: &http.Client{Timeout: clientTimeout}}, nil
}

// call makes a command's RunE of what it asks of the server.
func (f *clientFlags) call(e *env, run func(ctx context.Context, c *adminapi.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := f.client(e)
		if err != nil {
			return err
		}
		err = run(cmd.Context(), c, args)
		if refused := (*adminapi.Error)(nil); errors.As(err, &refused) && refused.RequestID != "" {
			return fmt.Errorf("%w (request %s)", err, refused.RequestID)
		}
		return err
	}
}

// print prints JSON, or else the table.
func (f *clientFlags) print(e *env, v any, fill func(t *table)) error {
	if f.asJSON {
		out := json.NewEncoder(e.stdout)
		out.SetIndent("", "  ")
		out.SetEscapeHTML(false)
		return out.Encode(v)
	}
	var t table
	fill(&t)
	return t.write(e.stdout)
}

// printAll prints a list, as far as it goes.
func printAll[T any](f *clientFlags, e *env, list func(adminapi.PageRequest) (*adminapi.Page[T], error), head []string, row func(*T) []string) error {
	items := []T{}
	for item, err := range adminapi.All(list) {
		if err != nil {
			return err
		}
		items = append(items, item)
	}
	return f.print(e, items, func(t *table) {
		t.row(head...)
		for i := range items {
			cells := row(&items[i])
			for j := range cells {
				cells[j] = quoteOdd(cells[j])
			}
			t.row(cells...)
		}
	})
}

// readFileOr reads a file, or standard input for "-".
func readFileOr(stdin io.Reader, path string) ([]byte, error) {
	if path == "-" {
		return readLimited(stdin)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readLimited(file)
}

// completeTenants completes the first argument with the tenants of the server.
func (f *clientFlags) completeTenants(e *env) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		var ids []string
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		if c, err := f.client(e); err == nil {
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
			defer cancel()
			if page, err := c.Tenants(ctx, adminapi.PageRequest{Limit: 100}); err == nil {
				for i := range page.Items {
					ids = append(ids, page.Items[i].ID)
				}
			}
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}

func days(left *int) string {
	if left == nil {
		return "-"
	}
	return fmt.Sprint(*left)
}
