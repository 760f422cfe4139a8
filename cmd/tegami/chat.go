package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tegami-im/tegami/client"
	"github.com/tegami-im/tegami/internal/terminal"
)

type chatCommand struct {
	asFlags
	passwordFlags
	With     string `placeholder:"USER" help:"Who to talk with: a user, or a group chat by its id. Missing: whoever writes first, or /with USER."`
	History  int32  `default:"20" help:"How many earlier messages to show, at most 1000."`
	Register bool   `help:"Register the user if need be, without asking."`
	Follow   bool   `short:"f" help:"Between pipes: stay after the input has ended."`
}

func (chatCommand) Help() string {
	return `Shows the newest messages, then those that arrive; each line that is typed is sent. Lines that begin with a slash are commands: /with USER, /group NAME USER... makes a group chat, /invite, /join, /members and /leave are about it, /help, /quit. A line that begins with two slashes is sent without the first.

Without a terminal it reads lines from standard input and prints what arrives, and ends once the input has ended and all is sent, or when interrupted with --follow.

Examples:
  tegami chat --as alice
  tegami chat --as alice --with bob
  echo "Hello" | tegami chat --as alice --with bob
  tegami chat --as bob --follow </dev/null`
}

func (c *chatCommand) Run(ctx context.Context, std streams) error {
	signedIn, err := c.signIn(ctx, std)
	if err != nil {
		return err
	}
	console, err := terminal.Open(std.in, std.out)
	if err != nil {
		return err
	}
	conversation := &chat{
		client: signedIn, console: console, me: signedIn.Session().UserID,
		history: c.History, mine: make(map[string]bool),
	}
	err = conversation.run(ctx, c.With, c.Follow && !console.Interactive())
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		err = nil // ended by the user
	}
	return errors.Join(err, console.Close())
}

// signIn resumes the session, or makes one, or the user.
func (c *chatCommand) signIn(ctx context.Context, std streams) (*client.Client, error) {
	signedIn, err := c.resume(ctx, std)
	user, device, _ := strings.Cut(c.As, "/")
	if !errors.Is(err, client.ErrNoSession) || user == "" {
		return signedIn, err
	}
	password, err := c.password(std, user)
	if err != nil {
		return nil, err
	}
	signedIn, err = c.login(ctx, std, user, password, device)
	if client.CodeOf(err) != client.CodeUnauthenticated {
		return signedIn, err
	}
	// The server does not tell an unknown user from a wrong password.
	if !c.Register {
		agreed, asked := terminal.Confirm(std.in, std.err, "No such user, or a wrong password. Register "+user+"?")
		if asked != nil || !agreed {
			return nil, err
		}
	}
	if err := c.register(ctx, std, user, password, ""); client.CodeOf(err) == client.CodeAlreadyExists {
		return nil, errors.New("wrong password")
	} else if err != nil {
		return nil, err
	}
	return c.login(ctx, std, user, password, device)
}

// chat is one conversation at a console: one goroutine reads lines and sends
// them, another prints what arrives.
type chat struct {
	client  *client.Client
	console *terminal.Console
	me      string
	history int32

	mu   sync.Mutex
	peer string          // guarded by mu
	mine map[string]bool // guarded by mu; ids of what was sent here: the user has seen it
}

// run returns when the input ends, unless it is to follow, or when receiving
// fails.
func (c *chat) run(ctx context.Context, peer string, follow bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// History ends and live messages begin at this revision: none is missed,
	// none shown twice.
	head, _, err := c.client.Head(ctx)
	if err != nil {
		return err
	}
	c.welcome()
	if peer != "" {
		if err := c.talkWith(ctx, peer, head+1); err != nil {
			return err
		}
	}
	ended := make(chan error, 2)
	go func() { ended <- c.client.Run(ctx, client.NewMemoryCursor(head), c.show) }()
	// ReadLine cannot be interrupted: when receiving ends first, this goroutine
	// ends with the program.
	go func() { ended <- c.sendLines(ctx) }()
	err = <-ended
	if follow && errors.Is(err, io.EOF) {
		err = <-ended
	}
	return err
}

func (c *chat) welcome() {
	if c.console.Interactive() {
		_ = c.console.Print("Type a line to send it. /with USER chooses who to talk with, /quit ends.")
	}
}

// talkWith shows the history below a revision, 0 for the newest, and directs
// lines to peer.
func (c *chat) talkWith(ctx context.Context, peer string, before int64) error {
	if c.history > 0 {
		messages, _, err := c.client.Messages(ctx, peer, before, c.history)
		if err != nil {
			return err
		}
		for _, message := range slices.Backward(messages) {
			if err := c.print(message); err != nil {
				return err
			}
		}
	}
	c.direct(peer)
	return nil
}

// direct sends the lines to come to a peer.
func (c *chat) direct(peer string) {
	c.mu.Lock()
	c.peer = peer
	c.mu.Unlock()
	c.console.SetPrompt("to " + peer + "> ")
}

func (c *chat) partner() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peer
}

// show prints an operation, unless the line was typed here.
func (c *chat) show(_ context.Context, op *client.Operation) error {
	message := messageOf(op)
	if message == nil {
		return c.showChange(op)
	}
	c.mu.Lock()
	known := c.mine[message.GetClientMessageId()]
	delete(c.mine, message.GetClientMessageId())
	c.mu.Unlock()
	if known {
		return nil
	}
	if err := c.print(message); err != nil {
		return err
	}
	if peer := peerOf(message, c.me); c.partner() == "" && message.GetFrom() != c.me {
		c.direct(peer)
		if c.console.Interactive() {
			return c.console.Print("You are talking with " + peer + " now.")
		}
	}
	return nil
}

// peerOf returns the conversation of a message: the other user, or the group
// chat.
func peerOf(message *client.Message, me string) string {
	if message.GetFrom() == me || message.GetChatRevision() > 0 {
		return message.GetTo()
	}
	return message.GetFrom()
}

func (c *chat) print(message *client.Message) error {
	who := message.GetFrom()
	if peer := peerOf(message, c.me); who == c.me && peer != c.me || message.GetChatRevision() > 0 && peer != c.partner() {
		who += " → " + peer
	}
	text := bodyText(message)
	if c.console.Interactive() {
		text = message.GetCreateTime().AsTime().Local().Format(time.TimeOnly) + " " + who + ": " + text
		return c.console.Print(text)
	}
	return c.console.Print(who + ": " + text)
}

// sendLines sends what is typed. It returns io.EOF at the end.
func (c *chat) sendLines(ctx context.Context) error {
	for {
		line, err := c.console.ReadLine()
		if err != nil {
			return err
		}
		switch command, escaped := strings.CutPrefix(line, "/"); {
		case line == "":
		case !escaped || strings.HasPrefix(command, "/"):
			err = c.send(ctx, command)
		default:
			err = c.command(ctx, command)
		}
		if err != nil {
			return err
		}
	}
}

func (c *chat) command(ctx context.Context, line string) error {
	name, argument, _ := strings.Cut(line, " ")
	argument = strings.TrimSpace(argument)
	switch {
	case name == "quit":
		return io.EOF
	case name == "with" && argument != "":
		return c.refused(c.talkWith(ctx, argument, 0))
	default:
		known, err := c.groupCommand(ctx, name, strings.Fields(argument))
		if known {
			return c.refused(err)
		}
		return c.console.Print("/with USER talks with a user, or a group chat by its id; /group NAME USER... makes one, /invite USER... /members and /leave are about the one you talk in, /join CHAT accepts an invitation or a code; /quit ends; //text sends a line that begins with a slash")
	}
}

func (c *chat) send(ctx context.Context, text string) error {
	peer := c.partner()
	if peer == "" {
		return c.refused(usagef("nobody to send to: /with USER first"))
	}
	id := rand.Text()
	if peer != c.me { // what one writes to oneself arrives, and is shown
		c.typedHere(id, true)
	}
	_, err := c.client.Send(ctx, peer, text, client.WithID(id))
	if err != nil {
		c.typedHere(id, false)
	}
	return c.refused(err)
}

func (c *chat) typedHere(id string, typed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if typed {
		c.mine[id] = true
	} else {
		delete(c.mine, id)
	}
}

// refused shows a person what was wrong with a line and goes on. A script is
// told by the exit code.
func (c *chat) refused(err error) error {
	if err == nil || !c.console.Interactive() || errors.Is(err, context.Canceled) {
		return err
	}
	return c.console.Print(fmt.Sprintf("Not done: %s", plain(err)))
}
