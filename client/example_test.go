package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/tegami-im/tegami/client"
)

// startServer starts a server that speaks cleartext HTTP/2, for the examples.
func startServer() *httptest.Server {
	server := httptest.NewUnstartedServer(newFakeServer())
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	return server
}

func Example() {
	server := startServer()
	defer server.Close()
	ctx := context.Background()

	alice, err := client.Login(ctx, server.URL, "alice", "secret")
	if err != nil {
		panic(err)
	}
	if _, err := alice.Send(ctx, "alice", "Remember the milk"); err != nil {
		panic(err)
	}

	enough := errors.New("enough")
	err = alice.Run(ctx, new(client.MemoryCursor), func(_ context.Context, op *client.Operation) error {
		if message := op.GetReceiveMessage(); message != nil {
			fmt.Println(op.GetRevision(), message.GetText())
		}
		return enough // an error ends Run; nil goes on to the next operation
	})
	fmt.Println(errors.Is(err, enough))
	// Output:
	// 1 Remember the milk
	// true
}

func ExampleClient_Send_repeatable() {
	server := startServer()
	defer server.Close()
	ctx := context.Background()
	alice, err := client.Login(ctx, server.URL, "alice", "secret")
	if err != nil {
		panic(err)
	}

	// An id that this program would make again after a restart.
	first, err := alice.Send(ctx, "bob", "Your order 1234 has shipped", client.WithID("order-1234-shipped"))
	if err != nil {
		panic(err)
	}
	second, err := alice.Send(ctx, "bob", "Your order 1234 has shipped", client.WithID("order-1234-shipped"))
	fmt.Println(first.MessageID == second.MessageID, err)
	// Output: true <nil>
}

func ExampleError() {
	server := startServer()
	defer server.Close()

	_, err := client.Login(context.Background(), server.URL, "alice", "wrong")
	if refused, ok := errors.AsType[*client.Error](err); ok {
		fmt.Println(refused.Code, refused.Reason)
	}
	// Output: unauthenticated bad_credentials
}
