package main

import (
	"context"
	"fmt"
	"strings"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/client"
	"github.com/tegami-im/tegami/internal/terminal"
)

// groupCommand does what a line says about group chats; known is false when it
// is about something else.
func (c *chat) groupCommand(ctx context.Context, name string, arguments []string) (known bool, err error) {
	group := c.partner()
	switch {
	case name == "group" && len(arguments) > 0:
		return true, c.makeGroup(ctx, arguments[0], arguments[1:])
	case name == "join" && len(arguments) == 1:
		return true, c.join(ctx, arguments[0])
	case name == "invite" && len(arguments) > 0:
		return true, c.client.InviteToChat(ctx, group, arguments...)
	case name == "members":
		return true, c.printMembers(ctx, group)
	case name == "leave":
		return true, c.client.LeaveChat(ctx, group)
	default:
		return false, nil
	}
}

func (c *chat) makeGroup(ctx context.Context, name string, invite []string) error {
	made, err := c.client.CreateChat(ctx, name, client.Inviting(invite...))
	if err != nil {
		return err
	}
	c.direct(made.GetChatId())
	return c.console.Print("You are talking in " + made.GetChatId() + " now.")
}

// join accepts the invitation to a group chat, or takes a code.
func (c *chat) join(ctx context.Context, group string) error {
	joined, err := c.client.AcceptInvitation(ctx, group)
	if client.CodeOf(err) == client.CodeInvalidArgument { // no chat has such an id
		joined, err = c.client.JoinByLink(ctx, group)
	}
	if err != nil {
		return err
	}
	return c.talkWith(ctx, joined.GetChatId(), 0)
}

func (c *chat) printMembers(ctx context.Context, group string) error {
	members, err := c.client.ChatMembers(ctx, group)
	if err != nil {
		return err
	}
	for _, member := range members {
		if err := c.console.Print(fmt.Sprintf("%s (%s)", member.GetUserId(), roleText(member.GetRole()))); err != nil {
			return err
		}
	}
	return nil
}

// showChange prints what happened in a group chat.
func (c *chat) showChange(op *client.Operation) error {
	change := op.GetChatChanged()
	if change == nil {
		return nil
	}
	text := "* " + op.GetChatId() + ": " + chatChangeText(change)
	if change.GetChat().GetRole() == tegamiv1.ChatRole_CHAT_INVITED {
		text += "; /join " + op.GetChatId() + " accepts"
	}
	return c.console.Print(text)
}

// chatChangeText says what happened in a group chat.
func chatChangeText(change *tegamiv1.ChatChange) string {
	users := strings.Join(change.GetUsers(), ", ")
	text := map[tegamiv1.ChatChange_Kind]string{
		tegamiv1.ChatChange_CREATED:      "made by " + change.GetBy(),
		tegamiv1.ChatChange_INVITED:      users + " invited by " + change.GetBy(),
		tegamiv1.ChatChange_JOINED:       users + " joined",
		tegamiv1.ChatChange_DECLINED:     users + " declined",
		tegamiv1.ChatChange_LEFT:         users + " left",
		tegamiv1.ChatChange_REMOVED:      users + " removed by " + change.GetBy(),
		tegamiv1.ChatChange_ROLE_CHANGED: users + " made " + roleText(change.GetRole()) + " by " + change.GetBy(),
		tegamiv1.ChatChange_UPDATED:      "changed by " + change.GetBy(),
	}[change.GetKind()]
	return terminal.Clean(fmt.Sprintf("%q, %s", change.GetChat().GetName(), text))
}

func roleText(role client.ChatRole) string {
	return strings.ToLower(strings.TrimPrefix(role.String(), "CHAT_"))
}
