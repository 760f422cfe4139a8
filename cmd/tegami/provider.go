package main

import (
	"log/slog"

	"github.com/tegami-im/tegami/api/auth/oidc"
	"github.com/tegami-im/tegami/api/server"
	"github.com/tegami-im/tegami/config"
	"github.com/tegami-im/tegami/telemetry"
)

// openIDProvider returns the provider of the configuration, if it names one. It
// need not be there yet. Nobody signs in as a behaviour: its account would be
// somebody's, and it would not run any more.
func openIDProvider(c *config.Config, log *slog.Logger, metrics *telemetry.Metrics) (options server.ProviderOptions, err error) {
	if c.Auth.OIDCIssuer == "" {
		return options, nil
	}
	trust, err := clientTLS(c.Auth.OIDCCA)
	if err != nil {
		return options, usagef("auth.oidc_ca: %w", err)
	}
	options.Register = c.Auth.OIDCRegister
	options.Tokens, err = oidc.New(oidc.Options{
		Issuer:   c.Auth.OIDCIssuer,
		Audience: c.Auth.OIDCAudience,
		Claim:    c.Auth.OIDCClaim,
		Prefix:   c.Auth.OIDCPrefix,
		Reserved: behaviourUsers(c),
		TLS:      trust,
		Logger:   log,
		Fetched:  metrics.ProviderFetched,
	})
	return options, err
}
