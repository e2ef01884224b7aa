"""How often somebody tried to log in to the admin, where all processes can see it."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class LoginTries(models.Model):
    """Of one account, one address, or one account from one address; see ``tasks.logins``.

    The key is a hash: what is typed as a name may be a password.
    """

    key = models.CharField(max_length=64, primary_key=True)
    failures = models.PositiveIntegerField(
        default=0, help_text="Since the last success, or a day without any."
    )
    blocked_until = models.DateTimeField(null=True)
    tried_at = models.DateTimeField()
    logged_in_at = models.DateTimeField(
        null=True, help_text="When this account last did so from this address."
    )

    class Meta:
        db_table = "login_tries"
        default_permissions = ()
        indexes: ClassVar = [models.Index(fields=["tried_at"], name="login_tries_old_idx")]  # logins.begin

    def __str__(self) -> str:
        return self.key
