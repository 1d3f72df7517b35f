"""What people are told of: who is, by the office's table and by each one's own choice, and the notices themselves. Who is told
when is crm.notices'."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from crm.choices import NoticeChannel, NoticeKind
from crm.models.base import CrmModel, CrmQuerySet


class NoticeRule(CrmModel):
    """Whom the office tells of one kind. Whoever did it himself is not told."""

    kind = models.CharField(_("of what"), max_length=40, choices=NoticeKind, unique=True, editable=False)
    to_adviser = models.BooleanField(
        _("the case's adviser"), default=False, help_text=_("While he is absent his stand-in too.")
    )
    to_managers = models.BooleanField(_("managers"), default=False)
    to_administrators = models.BooleanField(_("administrators"), default=False)
    to_client = models.BooleanField(
        _("the client"),
        default=False,
        help_text=_("Of steps only those whose kind says so. Only who has an e-mail and has not declined."),
    )

    class Meta(CrmModel.Meta):
        verbose_name = _("who is told of what")
        verbose_name_plural = _("who is told of what")
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.get_kind_display()


class NoticeChoice(CrmModel):
    """How one person wants to be told of one kind; where there is none, by mail and in the inbox."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notice_choices", verbose_name=_("user")
    )
    kind = models.CharField(_("of what"), max_length=40, choices=NoticeKind)
    channel = models.CharField(_("how"), max_length=10, choices=NoticeChannel, default=NoticeChannel.BOTH)
    is_subscribed = models.BooleanField(_("of all cases that I may see"), default=False)

    class Meta(CrmModel.Meta):
        verbose_name = _("choice of notices")
        verbose_name_plural = _("choices of notices")
        ordering = ["user", "kind"]
        constraints = [models.UniqueConstraint(fields=["user", "kind"], name="notice_choice_unique")]

    def __str__(self) -> str:
        return f"{self.user_id}/{self.kind}"


class NoticeQuerySet(CrmQuerySet):
    def of(self, user):
        """In his inbox."""
        return self.filter(user=user, in_inbox=True)

    def unread(self):
        return self.filter(in_inbox=True, read_at=None)

    def to_mail(self):
        return self.filter(wants_mail=True, mailed_at=None)

    def with_words(self):
        """And what crm.notices.line names of the case, the client and the step; nothing encrypted."""
        hidden = [
            f"{name}__{field.name}"
            for name in ("case", "client")
            for field in self.model._meta.get_field(name).related_model._meta.concrete_fields
            if field.name not in ("id", "reference", "status", "client", "adviser")
        ]
        return self.select_related("case", "client", "step").defer(*hidden)


class Notice(models.Model):
    """To one person, in his inbox or his next mail, or, without `user`, to the client of the case by mail. `count` of the
    same kind came at once (an import). `detail` is what no column says: JSON, no personal data."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, related_name="notices", verbose_name=_("user")
    )
    kind = models.CharField(_("of what"), max_length=40, choices=NoticeKind)
    case = models.ForeignKey("crm.Case", on_delete=models.CASCADE, null=True, related_name="+", verbose_name=_("case"))
    client = models.ForeignKey(
        "crm.Client", on_delete=models.CASCADE, null=True, related_name="+", verbose_name=_("client")
    )
    step = models.ForeignKey("crm.Step", on_delete=models.CASCADE, null=True, related_name="+", verbose_name=_("step"))
    count = models.PositiveIntegerField(_("count"), default=1)
    detail = models.JSONField(default=dict, editable=False)
    by_name = models.CharField(_("who"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("when"), default=timezone.now)
    in_inbox = models.BooleanField(default=True, editable=False)
    read_at = models.DateTimeField(_("read"), null=True)
    wants_mail = models.BooleanField(default=False, editable=False)
    mailed_at = models.DateTimeField(null=True, editable=False)

    objects = NoticeQuerySet.as_manager()

    class Meta:
        verbose_name = _("notice")
        verbose_name_plural = _("notices")
        ordering = ["-created_at", "-pk"]
        indexes = [
            models.Index(fields=["user", "-created_at"], name="notice_inbox", condition=Q(in_inbox=True)),
            models.Index(fields=["user"], name="notice_unread", condition=Q(in_inbox=True, read_at=None)),
            models.Index(fields=["created_at"], name="notice_to_mail", condition=Q(wants_mail=True, mailed_at=None)),
        ]
