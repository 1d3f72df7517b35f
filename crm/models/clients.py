"""A client: a person, whose identity and contact are encrypted, and the search tokens that find him."""

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext_lazy as _
from stdnum import iban
from stdnum.cz import bankaccount, dic, rc
from stdnum.exceptions import ValidationError as StdnumError

from crm import search
from crm.encryption import EncryptedCharField, EncryptedDateField, EncryptedEmailField, EncryptedTextField, Unreadable
from crm.models.base import BATCH, CrmModel, CrmQuerySet, Stamped, reserve_references

REFERENCE_PREFIX = "C"


def check_birth_number(value: str) -> None:
    try:
        rc.validate(value)
    except StdnumError as error:
        raise ValidationError(_("This is not a valid Czech birth number."), code="birth_number") from error


def check_business_id(value: str) -> None:
    try:
        dic.validate(value.zfill(8))
    except StdnumError as error:
        raise ValidationError(_("This is not a valid business id (IČO)."), code="business_id") from error


def check_bank_account(value: str) -> None:
    """Czech `[prefix-]number/bank`, or an IBAN of any country."""
    try:
        if value[:2].isalpha():
            iban.validate(value)
        else:
            bankaccount.validate(value)
    except StdnumError as error:
        raise ValidationError(_("This is not a valid bank account number."), code="bank_account") from error


class ClientQuerySet(CrmQuerySet):
    def visible_to(self, user):
        if settings.ADVISER_SCOPE != "own" or user.has_perm("crm.view_all_cases"):
            return self
        from crm.models.cases import Case

        # A client without a case yet belongs to nobody else, so whoever just wrote him down still sees him.
        cases = Case.objects.filter(client=OuterRef("pk"))
        return self.filter(Exists(cases.visible_to(user)) | ~Exists(cases))

    def search(self, text: str):
        """By reference, by a whole e-mail, phone, birth, document or business number, or by all words of the name."""
        text = text.strip()
        if not text:
            return self
        tokens = SearchToken.objects
        found = Q(reference__istartswith=text)
        whole = Q()
        for kind, digest in search.whole_digests(text):
            whole |= Q(kind=kind, digest=digest)
        if whole:
            found |= Q(pk__in=tokens.filter(whole).values("client"))
        if digests := search.word_digests(text):
            words = Q()
            for digest in digests:
                words &= Q(pk__in=tokens.filter(kind=search.Kind.NAME, digest=digest).values("client"))
            found |= words
        return self.filter(found)

    def update(self, **values):
        indexed = bool(values.keys() & set(search.INDEXED_FIELDS))
        with transaction.atomic():
            # Read before the write: the filter may be about what changes.
            keys = list(self.values_list("pk", flat=True)) if indexed else []
            changed = super().update(**values)
            if keys:
                SearchToken.objects.rebuild(Client.objects.filter(pk__in=keys))
        return changed

    update.alters_data = True

    def bulk_create(self, objs, *args, **kwargs):
        objs = list(objs)
        with transaction.atomic():
            give_references(objs)
            created = super().bulk_create(objs, *args, **kwargs)
            SearchToken.objects.add(created)
        return created


def give_references(clients: list) -> None:
    nameless = [client for client in clients if not client.reference]
    for client, reference in zip(nameless, reserve_references(REFERENCE_PREFIX, len(nameless)), strict=True):
        client.reference = reference


class Client(Stamped, CrmModel):
    reference = models.CharField(_("reference"), max_length=20, unique=True, editable=False)
    full_name = EncryptedCharField(_("full name"), max_length=200)
    email = EncryptedEmailField(_("e-mail"), max_length=254, blank=True)
    phone = EncryptedCharField(_("phone"), max_length=40, blank=True)
    birth_number = EncryptedCharField(
        _("birth number"), max_length=11, blank=True, validators=[check_birth_number], help_text="YYMMDD/SSSC"
    )
    birth_date = EncryptedDateField(_("date of birth"), null=True, blank=True)
    birth_place = EncryptedCharField(_("place of birth"), max_length=200, blank=True)
    street = EncryptedCharField(_("street"), max_length=200, blank=True)
    city = EncryptedCharField(_("city"), max_length=200, blank=True)
    postal_code = EncryptedCharField(_("postal code"), max_length=20, blank=True)
    mailing_address = EncryptedTextField(_("mailing address"), max_length=500, blank=True)
    id_document_number = EncryptedCharField(_("identity document number"), max_length=40, blank=True)
    id_document_issuer = EncryptedCharField(_("identity document issuer"), max_length=200, blank=True)
    bank_account = EncryptedCharField(_("bank account"), max_length=40, blank=True, validators=[check_bank_account])
    employer = EncryptedCharField(_("employer"), max_length=200, blank=True)
    business_id = EncryptedCharField(_("business id (IČO)"), max_length=8, blank=True, validators=[check_business_id])
    note = EncryptedTextField(_("note"), blank=True)
    citizenship = models.CharField(_("citizenship"), max_length=2, blank=True, help_text=_("Two letters, such as CZ."))
    id_document_valid_until = models.DateField(_("identity document valid until"), null=True, blank=True)
    portal_user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="portal_client",
        verbose_name=_("portal user"),
    )
    legacy_id = models.CharField(
        _("id in the older CRM"), max_length=40, unique=True, null=True, blank=True, editable=False
    )
    retention_until = models.DateField(_("keep until"), null=True, blank=True)
    restricted_at = models.DateTimeField(_("restricted"), null=True, blank=True, editable=False)
    anonymised_at = models.DateTimeField(_("anonymised"), null=True, blank=True, editable=False)

    objects = ClientQuerySet.as_manager()

    class Meta:
        verbose_name = _("client")
        verbose_name_plural = _("clients")
        ordering = ["-reference"]
        permissions = [("import_client", "Can import clients"), ("export_client", "Can export clients")]

    def __str__(self) -> str:
        return self.reference

    @property
    def display_name(self) -> str:
        return f"{self.full_name} ({self.reference})"

    def save(self, *args, **kwargs):
        fields = kwargs.get("update_fields")
        with transaction.atomic():
            if not self.reference:
                give_references([self])
            super().save(*args, **kwargs)
            if fields is None or set(fields) & set(search.INDEXED_FIELDS):
                SearchToken.objects.refresh(self)


class SearchTokenManager(models.Manager):
    def add(self, clients) -> None:
        rows = [
            SearchToken(client_id=client.pk, kind=kind, digest=digest)
            for client in clients
            for kind, digest in search.tokens(indexed_values(client))
        ]
        self.bulk_create(rows, batch_size=5 * BATCH)

    def refresh(self, client) -> None:
        """Makes the stored tokens those of the client's values; writes only what differs."""
        wanted = search.tokens(indexed_values(client))
        stored = {
            (kind, bytes(digest)): pk
            for pk, kind, digest in self.filter(client=client).values_list("pk", "kind", "digest")
        }
        if gone := [pk for token, pk in stored.items() if token not in wanted]:
            self.filter(pk__in=gone).delete()
        self.bulk_create(
            [SearchToken(client=client, kind=kind, digest=digest) for kind, digest in wanted - stored.keys()]
        )

    def rebuild(self, clients) -> int:
        """Writes the tokens of a queryset of clients anew, a batch a transaction; returns how many clients."""
        done = 0
        keys = list(clients.order_by("pk").values_list("pk", flat=True))
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            with transaction.atomic():
                self.filter(client__in=batch).delete()
                self.add(Client.objects.filter(pk__in=batch).only("pk", *search.INDEXED_FIELDS))
            done += len(batch)
        return done


def indexed_values(client) -> dict[str, str]:
    """A value that cannot be read has no tokens, and neither has one that was not loaded."""
    values = {name: getattr(client, name) for name in search.INDEXED_FIELDS}
    return {name: value for name, value in values.items() if value and not isinstance(value, Unreadable)}


class SearchToken(models.Model):
    """One keyed digest of one value of a client, or of a word's prefix. Internal: no history."""

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="search_tokens")
    kind = models.CharField(max_length=1, choices=search.Kind)
    digest = models.BinaryField(max_length=search.DIGEST_BYTES)

    objects = SearchTokenManager()

    class Meta:
        indexes = [models.Index(fields=["kind", "digest", "client"], name="search_token_lookup")]
