package server

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"

	"connectrpc.com/connect/v2"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/api/auth"
	"github.com/tegami-im/tegami/api/fault"
	"github.com/tegami-im/tegami/api/gen/tegami/v1/tegamiv1connect"
	"github.com/tegami-im/tegami/api/limit"
)

// access says who may call a method.
type access uint8

const (
	// nobody is the zero value: a method without a rule is closed.
	nobody access = iota
	// anybody may call, as often as the caller's address allows.
	anybody
	// everybody may call as often as they like: the answer is at hand.
	everybody
	// device means the bearer of a live session's access token.
	device
	// operator means the bearer of the admin token.
	operator
)

// rules has who may call each method. A method that is added to the schema
// stays closed until it is given a rule here.
var rules = map[string]access{
	tegamiv1connect.AuthServiceRegisterProcedure:                 anybody,
	tegamiv1connect.AuthServiceLoginProcedure:                    anybody,
	tegamiv1connect.AuthServiceRefreshProcedure:                  anybody,
	tegamiv1connect.AuthServiceLogoutProcedure:                   device,
	tegamiv1connect.AuthServiceListDevicesProcedure:              device,
	tegamiv1connect.AuthServiceRevokeDeviceProcedure:             device,
	tegamiv1connect.TalkServiceSendMessageProcedure:              device,
	tegamiv1connect.TalkServiceFetchOpsProcedure:                 device,
	tegamiv1connect.TalkServiceGetHeadProcedure:                  device,
	tegamiv1connect.TalkServiceListMessagesProcedure:             device,
	tegamiv1connect.ContactServiceFindUserProcedure:              device,
	tegamiv1connect.ContactServiceRequestFriendProcedure:         device,
	tegamiv1connect.ContactServiceAcceptFriendProcedure:          device,
	tegamiv1connect.ContactServiceDeclineFriendProcedure:         device,
	tegamiv1connect.ContactServiceRemoveFriendProcedure:          device,
	tegamiv1connect.ContactServiceListContactsProcedure:          device,
	tegamiv1connect.ContactServiceBlockProcedure:                 device,
	tegamiv1connect.ContactServiceUnblockProcedure:               device,
	tegamiv1connect.ContactServiceListBlockedProcedure:           device,
	tegamiv1connect.ContactServiceSetFavoriteProcedure:           device,
	tegamiv1connect.ContactServiceSetAliasProcedure:              device,
	tegamiv1connect.ContactServiceCreateInvitationProcedure:      device,
	tegamiv1connect.ContactServiceRedeemInvitationProcedure:      device,
	tegamiv1connect.SettingsServiceGetSettingsProcedure:          device,
	tegamiv1connect.SettingsServiceUpdateSettingsProcedure:       device,
	tegamiv1connect.SettingsServiceUpdateDeviceSettingsProcedure: device,
	tegamiv1connect.ProfileServiceGetProfileProcedure:            device,
	tegamiv1connect.ProfileServiceUpdateProfileProcedure:         device,
	tegamiv1connect.TalkServiceMarkReadProcedure:                 device,
	tegamiv1connect.TalkServiceListConversationsProcedure:        device,
	tegamiv1connect.TalkServiceUpdateConversationProcedure:       device,
	tegamiv1connect.TalkServiceUnsendMessageProcedure:            device,
	tegamiv1connect.TalkServiceEditMessageProcedure:              device,
	tegamiv1connect.TalkServiceReactToMessageProcedure:           device,
	tegamiv1connect.TalkServiceForwardMessageProcedure:           device,
	tegamiv1connect.TalkServiceSyncProcedure:                     device,
	tegamiv1connect.GatewayServiceListGatewaysProcedure:          everybody,
	tegamiv1connect.ChatServiceCreateChatProcedure:               device,
	tegamiv1connect.ChatServiceInviteToChatProcedure:             device,
	tegamiv1connect.ChatServiceAcceptInvitationProcedure:         device,
	tegamiv1connect.ChatServiceDeclineInvitationProcedure:        device,
	tegamiv1connect.ChatServiceJoinByLinkProcedure:               device,
	tegamiv1connect.ChatServiceLeaveChatProcedure:                device,
	tegamiv1connect.ChatServiceRemoveFromChatProcedure:           device,
	tegamiv1connect.ChatServiceSetChatRoleProcedure:              device,
	tegamiv1connect.ChatServiceUpdateChatProcedure:               device,
	tegamiv1connect.ChatServiceCreateChatLinkProcedure:           device,
	tegamiv1connect.ChatServiceRevokeChatLinkProcedure:           device,
	tegamiv1connect.ChatServiceGetChatProcedure:                  device,
	tegamiv1connect.ChatServiceListChatsProcedure:                device,
	tegamiv1connect.ChatServiceListMembersProcedure:              device,
	tegamiv1connect.AdminServiceCreateUsersProcedure:             operator,
	tegamiv1connect.AdminServiceIssueTokenProcedure:              operator,
}

// deviceKey names one device for its limits.
type deviceKey struct{ user, device string }

// admission decides who is let in before a request's body is read.
type admission struct {
	stopping   atomic.Bool
	tokens     *auth.Tokens
	sessions   *auth.Sessions
	adminToken string
	proxies    []netip.Prefix // that are believed where clients come from

	sends   *limit.Table[string]
	polls   *limit.Table[deviceKey]
	finds   *limit.Table[string]
	signIns *limit.Table[netip.Prefix]
}

var (
	errNotAllowed = fault.New(connect.CodePermissionDenied, "not_allowed", "the method is closed")
	errBadAdmin   = fault.Unauthenticated("bad_token", "the admin token is needed")
)

// admit returns in whose name a request is made, or why it is refused.
// authorization is the header of that name, peer the client's address, with its
// port or without. It blocks only while the talk tier is asked about a session that it has
// not been asked about for a while.
func (a *admission) admit(ctx context.Context, procedure, authorization, peer string) (talk.Session, error) {
	if a.stopping.Load() {
		return talk.Session{}, refusal.Of(refusal.Stopping)
	}
	switch rules[procedure] {
	case anybody:
		return talk.Session{}, a.limitAddress(peer)
	case everybody:
		return talk.Session{}, nil
	case device:
		caller, err := a.tokens.VerifyAccess(auth.Bearer(authorization))
		if err != nil {
			return talk.Session{}, err
		}
		// A poll waits for its mailbox, which knows the session, in any case.
		if err := a.sessions.Check(ctx, caller); err != nil && (procedure != tegamiv1connect.TalkServiceFetchOpsProcedure || !away(err)) {
			return talk.Session{}, err
		}
		return caller, a.limitCaller(procedure, caller)
	case operator:
		if !auth.EqualTokens(auth.Bearer(authorization), a.adminToken) {
			return talk.Session{}, errBadAdmin
		}
		return talk.Session{}, nil
	case nobody:
	}
	return talk.Session{}, errNotAllowed
}

// admitNow is admit for the methods of devices where nothing may be waited for:
// decided is false when the token must be verified or the talk tier asked.
func (a *admission) admitNow(procedure, authorization string) (caller talk.Session, decided bool, err error) {
	if a.stopping.Load() {
		return talk.Session{}, true, refusal.Of(refusal.Stopping)
	}
	if rules[procedure] != device {
		return talk.Session{}, false, nil
	}
	caller, known := a.tokens.Recall(auth.Bearer(authorization))
	if !known {
		return talk.Session{}, false, nil
	}
	if known, err = a.sessions.CheckNow(caller); !known || err != nil {
		return talk.Session{}, known, err
	}
	return caller, true, a.limitCaller(procedure, caller)
}

func (a *admission) limitCaller(procedure string, caller talk.Session) error {
	switch procedure {
	case tegamiv1connect.TalkServiceSendMessageProcedure, tegamiv1connect.TalkServiceForwardMessageProcedure, tegamiv1connect.TalkServiceUnsendMessageProcedure,
		tegamiv1connect.TalkServiceEditMessageProcedure, tegamiv1connect.TalkServiceReactToMessageProcedure:
		if wait, ok := a.sends.Allow(caller.User); !ok {
			return refusal.After(refusal.RateLimited, wait)
		}
	case tegamiv1connect.TalkServiceFetchOpsProcedure:
		if wait, ok := a.polls.Allow(deviceKey{caller.User, caller.Device}); !ok {
			return refusal.After(refusal.RateLimited, wait)
		}
	case tegamiv1connect.ContactServiceFindUserProcedure, tegamiv1connect.ProfileServiceGetProfileProcedure, tegamiv1connect.ContactServiceRequestFriendProcedure,
		tegamiv1connect.ContactServiceAcceptFriendProcedure, tegamiv1connect.ContactServiceDeclineFriendProcedure, tegamiv1connect.ContactServiceRemoveFriendProcedure,
		tegamiv1connect.ContactServiceBlockProcedure, tegamiv1connect.ContactServiceUnblockProcedure,
		tegamiv1connect.ContactServiceSetFavoriteProcedure, tegamiv1connect.ContactServiceSetAliasProcedure,
		tegamiv1connect.ContactServiceCreateInvitationProcedure, tegamiv1connect.ContactServiceRedeemInvitationProcedure,
		tegamiv1connect.SettingsServiceUpdateSettingsProcedure, tegamiv1connect.ProfileServiceUpdateProfileProcedure,
		tegamiv1connect.ChatServiceCreateChatProcedure, tegamiv1connect.ChatServiceInviteToChatProcedure,
		tegamiv1connect.ChatServiceAcceptInvitationProcedure, tegamiv1connect.ChatServiceDeclineInvitationProcedure,
		tegamiv1connect.ChatServiceJoinByLinkProcedure, tegamiv1connect.ChatServiceLeaveChatProcedure,
		tegamiv1connect.ChatServiceRemoveFromChatProcedure, tegamiv1connect.ChatServiceSetChatRoleProcedure,
		tegamiv1connect.ChatServiceUpdateChatProcedure,
		tegamiv1connect.ChatServiceCreateChatLinkProcedure, tegamiv1connect.ChatServiceRevokeChatLinkProcedure:
		if wait, ok := a.finds.Allow(caller.User); !ok {
			return refusal.After(refusal.RateLimited, wait)
		}
	}
	return nil
}

// away reports whether an error says that a mailbox cannot be asked at the moment.
func away(err error) bool {
	refused, ok := errors.AsType[*refusal.Refusal](err)
	return ok && refused.Reason.Code() == refusal.CodeUnavailable
}

func (a *admission) limitAddress(peer string) error {
	network, ok := networkOf(peer)
	if !ok {
		return nil
	}
	if wait, ok := a.signIns.Allow(network); !ok {
		return refusal.After(refusal.RateLimited, wait)
	}
	return nil
}

// callerKey is the key of the caller in the context of Connect's handlers.
type callerKey struct{}

func withCaller(ctx context.Context, caller talk.Session) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// callerOf returns in whose name a request is made that was admitted.
func callerOf(ctx context.Context) talk.Session {
	caller, _ := ctx.Value(callerKey{}).(talk.Session)
	return caller
}
