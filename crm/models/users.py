"""People who log in. Their role is a group; crm.roles says what a group may."""

from django.contrib.auth.models import AbstractUser, Group, Permission, UserManager
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.signals import post_delete, pre_delete
from django.dispatch import receiver
from django.utils.translation import gettext_lazy as _

from crm.choices import Language
from crm.models.base import CrmQuerySet
from crm.models.history import CHANGED, History, Tracked, record


class OfficeUserManager(UserManager.from_queryset(CrmQuerySet)):
    pass


class User(Tracked, AbstractUser):
    language = models.CharField(_("language"), max_length=2, choices=Language, default=Language.CZECH)
    absent_from = models.DateField(_("absent from"), null=True, blank=True)
    absent_until = models.DateField(_("absent until"), null=True, blank=True)
    is_demo = models.BooleanField(default=False, editable=False)

    history = History(excluded_fields=["password", "last_login"], m2m_fields=["groups", "user_permissions"])
    objects = OfficeUserManager()

    class Meta(AbstractUser.Meta):
        base_manager_name = "objects"
        verbose_name = _("user")
        verbose_name_plural = _("users")
        ordering = ["last_name", "first_name", "username"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(absent_until__gte=models.F("absent_from"))
                | models.Q(absent_from__isnull=True)
                | models.Q(absent_until__isnull=True),
                name="user_absent_until_after_from",
                violation_error_message=_("The absence ends before it begins."),
            )
        ]

    def __str__(self) -> str:
        return self.get_display_name()

    def get_display_name(self) -> str:
        return self.get_full_name() or self.username

    def clean(self) -> None:
        super().clean()
        if self.absent_until and not self.absent_from:
            raise ValidationError(_("Say since when: an absence without a beginning is none."))

    def is_absent(self, on) -> bool:
        return bool(self.absent_from and self.absent_from <= on and (not self.absent_until or on <= self.absent_until))


# Django tells nobody whose groups and permissions go with a group or a permission that is deleted.


@receiver(pre_delete, sender=Group)
@receiver(pre_delete, sender=Permission)
def _note_holders(sender, instance, **kwargs):
    instance._holders = list(instance.user_set.values_list("pk", flat=True))


@receiver(post_delete, sender=Group)
@receiver(post_delete, sender=Permission)
def _record_holders(sender, instance, **kwargs):
    record(User, instance.__dict__.pop("_holders", ()), CHANGED)
