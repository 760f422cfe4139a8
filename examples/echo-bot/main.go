// Echo-bot answers every message with its own text. It survives restarts, its
// own and the server's: no message goes without an answer, and none gets two.
//
//	tegami register echo --password 'a long one'
//	go run ./examples/echo-bot http://127.0.0.1:7400 echo 'a long one'
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/tegami-im/tegami/client"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: echo-bot SERVER USER PASSWORD")
		os.Exit(2)
	}
	server, user, password := os.Args[1], os.Args[2], os.Args[3]
	bot, err := client.Login(ctx, server, user, password, client.WithDevice("echo-bot"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	err = bot.Run(ctx, client.FileCursor("echo-bot.cursor"), func(ctx context.Context, op *client.Operation) error {
		message := op.GetReceiveMessage()
		if message.GetText() == "" || message.GetFrom() == user {
			return nil
		}
		// After a crash the same operation comes again; its echo has the same
		// id and is not sent twice.
		_, err := bot.Send(ctx, message.GetFrom(), message.GetText(), client.WithID("echo-"+message.GetMessageId()))
		return err
	})
	fmt.Fprintln(os.Stderr, err)
}
