"""A client: a person, whose identity and contact are encrypted, and the search tokens that find him."""

from collections.abc import Iterable

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection, models, transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.signals import post_save, pre_save
from django.dispatch import receiver
from django.utils.translation import gettext_lazy as _
from stdnum import iban
from stdnum.cz import bankaccount, dic, rc
from stdnum.exceptions import ValidationError as StdnumError

from crm import search
from crm.choices import ConsentPurpose
from crm.encryption import EncryptedCharField, EncryptedDateField, EncryptedEmailField, EncryptedTextField, Unreadable
from crm.models.base import BATCH, RESTRICTED_BY, CrmModel, CrmQuerySet, Stamped, sees_all_cases, with_references
from crm.models.bulk import insert_rows
from crm.models.history import DELETED

REFERENCE_PREFIX = "C"


def check_birth_number(value: str) -> None:
    try:
        rc.validate(value)
    except StdnumError as error:
        raise ValidationError(_("This is not a valid Czech birth number."), code="birth_number") from error


def parse_birth_number(written: str) -> str:
    """`750815 / 5006` is `750815/5006`."""
    return "/".join(part.strip() for part in written.split("/"))


class BirthNumberInput(forms.CharField):
    def to_python(self, value):
        return parse_birth_number(super().to_python(value))

    def widget_attrs(self, widget):
        return {}  # a browser would cut at the maximal length what has blanks in it


class BirthNumberField(EncryptedCharField):
    def clean(self, value, model_instance):
        is_written = isinstance(value, str) and not isinstance(value, Unreadable)
        return super().clean(parse_birth_number(value) if is_written else value, model_instance)

    def formfield(self, **kwargs):
        return super().formfield(**{"form_class": BirthNumberInput, **kwargs})

    def deconstruct(self):
        name, _path, args, kwargs = super().deconstruct()
        return name, "crm.encryption.EncryptedCharField", args, kwargs  # no other column than that


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
        if sees_all_cases(user):
            return self
        from crm.models.cases import Case

        # A client who never had a case belongs to nobody else, so whoever just wrote him down still sees him. One whose
        # cases were deleted stays with those whose they were: nobody else gets to see him by a deletion. Each part is
        # read once a list and looked up once a page of one client; what was deleted has an index of its own.
        cases = Case.objects.filter(client=OuterRef("pk"))
        history = Case.history.model.objects.order_by()
        had = history.filter(client_id=OuterRef("pk"))
        own = Q(adviser_id=user.pk) | Q(stand_in_id=user.pk)
        lost = history.filter(own, history_type=DELETED, client_id__isnull=False).values("client_id")
        return self.filter(Exists(cases.visible_to(user)) | ~Exists(cases) & (~Exists(had) | Q(pk__in=lost)))

    def search(self, text: str):
        """By reference, by a whole e-mail, phone, birth, document or business number, or by all words of the name."""
        text = search.clean(text)
        if not text:
            return self
        # Keys first, in one union of index scans: conditions with OR between them would have every client read.
        tokens = SearchToken.objects.order_by()
        found = [Client.objects.order_by().filter(reference__startswith=text.upper()).values("pk")]
        whole = Q()
        for kind, digest in search.whole_digests(text):
            whole |= Q(kind=kind, digest=digest)
        if whole:
            found.append(tokens.filter(whole).values("client"))
        if digests := search.word_digests(text):
            words = tokens.filter(kind=search.Kind.NAME, digest=digests[0])
            for digest in digests[1:]:
                words = words.filter(client__in=tokens.filter(kind=search.Kind.NAME, digest=digest).values("client"))
            found.append(words.values("client"))
        return self.filter(pk__in=found[0].union(*found[1:], all=True))

    def may_be_written_to(self):
        """By the office about his cases: whoever is neither restricted nor anonymised, and withdrew no consent without
        giving it anew, on a later day or, on the same one, in a row of its own that was written down after it. Whether
        he has an address is another question."""
        from crm.models.privacy import Consent

        later = Q(given_on__gt=OuterRef("withdrawn_on")) | Q(given_on=OuterRef("withdrawn_on"), pk__gt=OuterRef("pk"))
        consents = Consent.objects.filter(purpose=ConsentPurpose.MESSAGES)
        given = consents.filter(later, client=OuterRef("client"), withdrawn_on=None)
        withdrawn = consents.filter(~Exists(given), client=OuterRef("pk")).exclude(withdrawn_on=None)
        return self.unrestricted().filter(~Exists(withdrawn))

    def citizenships(self) -> list[str]:
        """Every citizenship of the office, sorted. Jumps through the index from one to the next: DISTINCT would read
        all clients, a tenth of a second at 42,000."""
        table = self.model._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(
                f"WITH RECURSIVE found(value) AS (SELECT min(citizenship) FROM {table} UNION ALL "  # noqa: S608
                f"SELECT (SELECT min(citizenship) FROM {table} WHERE citizenship > value) FROM found "
                "WHERE value IS NOT NULL) SELECT value FROM found WHERE value IS NOT NULL"
            )
            return [value for (value,) in cursor.fetchall()]

    def update(self, **values):
        if not values.keys() & set(search.INDEXED_FIELDS):
            return super().update(**values)
        with transaction.atomic():
            # Read before the write: the filter may be about what changes.
            keys = list(self.values_list("pk", flat=True))
            changed = super().update(**values)
            SearchToken.objects.rebuild(Client.objects.filter(pk__in=keys))
        return changed

    update.alters_data = True

    def bulk_create(self, objs, *args, **kwargs):
        objs = list(objs)
        with with_references(REFERENCE_PREFIX, objs):
            created = super().bulk_create(objs, *args, **kwargs)
            SearchToken.objects.add(created)
        return created


class Client(CrmModel, Stamped):
    client_path = ""

    reference = models.CharField(_("reference"), max_length=20, unique=True, editable=False)
    full_name = EncryptedCharField(_("full name"), max_length=200)
    email = EncryptedEmailField(_("e-mail"), max_length=254, blank=True)
    phone = EncryptedCharField(_("phone"), max_length=40, blank=True)
    birth_number = BirthNumberField(
        _("birth number"), max_length=11, blank=True, validators=[check_birth_number], help_text=_("YYMMDD/SSSC")
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
        # What the list filters and sorts by: a row is 3 kB of ciphertext, so reading all of them is slow.
        indexes = [
            models.Index(fields=["citizenship"], name="client_citizenship"),
            models.Index(fields=["id_document_valid_until"], name="client_document_valid"),
            models.Index(fields=["retention_until"], name="client_retention"),
            models.Index(fields=["created_at"], name="client_created"),
            models.Index(fields=["updated_at"], name="client_updated"),
        ]
        permissions = [
            ("import_client", "Can import clients"),
            ("export_client", "Can export clients"),
            ("erase_client", "Can erase clients"),
        ]

    def __str__(self) -> str:
        return self.reference

    @property
    def is_restricted(self) -> bool:
        """Kept because the law says so, or erased."""
        return any(getattr(self, name) for name in RESTRICTED_BY)

    @property
    def display_name(self) -> str:
        """Whoever was erased has no other name."""
        return self.reference if self.full_name == self.reference else f"{self.full_name} ({self.reference})"

    def save(self, **kwargs):
        written = set(search.INDEXED_FIELDS) & self.changed_fields()
        if kwargs.get("update_fields") is not None:
            written &= set(kwargs["update_fields"])
        with with_references(REFERENCE_PREFIX, [self] if self.is_new else []):
            super().save(**kwargs)
            # Only of the fields that were written: what the object says of the others may be older than the row.
            if written:
                SearchToken.objects.refresh(self, written)


class SearchTokenManager(models.Manager):
    def add(self, clients, fields=search.INDEXED_FIELDS) -> None:
        """Of whatever has a client's key and values."""
        clients = list(clients)
        self.insert([client.pk for client in clients], tokens_of(clients, fields))

    def insert(self, keys: Iterable[int], found: Iterable[Iterable[tuple[str, bytes]]]) -> None:
        """Those that `tokens_of` found, of the clients with these keys."""
        rows = ((key, *token) for key, tokens in zip(keys, found, strict=True) for token in tokens)
        insert_rows(SearchToken, ["client_id", "kind", "digest"], rows)

    def replace(self, clients, fields) -> None:
        """Those of these fields, by what the clients say: of locked rows whose new values were just written."""
        kinds = [kind for field in fields for kind in search.FIELD_KINDS[field]]
        self.filter(client__in=[client.pk for client in clients], kind__in=kinds).delete()
        self.add(clients, fields)

    def refresh(self, client, fields=search.INDEXED_FIELDS) -> None:
        """Makes the stored tokens of these fields those of the client's values; writes only what differs."""
        kinds = [kind for field in fields for kind in search.FIELD_KINDS[field]]
        wanted = search.tokens(indexed_values(client, fields))
        stored = {
            (kind, bytes(digest)): pk
            for pk, kind, digest in self.filter(client=client, kind__in=kinds).values_list("pk", "kind", "digest")
        }
        if gone := [pk for token, pk in stored.items() if token not in wanted]:
            self.filter(pk__in=gone).delete()
        self.bulk_create(
            [SearchToken(client=client, kind=kind, digest=digest) for kind, digest in wanted - stored.keys()]
        )

    def rebuild(self, clients, progress=None) -> int:
        """Writes the tokens of a queryset of clients anew, a batch a transaction; returns how many clients, and tells
        `progress` after each batch."""
        done = 0
        keys = list(clients.order_by("pk").values_list("pk", flat=True))
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            with transaction.atomic():
                # Whoever saves one of them waits, so that the tokens are those of the row's last value.
                list(Client.objects.select_for_update().filter(pk__in=batch).order_by("pk").values_list("pk"))
                self.filter(client__in=batch).delete()
                self.add(Client.objects.filter(pk__in=batch).only("pk", *search.INDEXED_FIELDS))
            done += len(batch)
            if progress:
                progress(done)
        return done


def tokens_of(clients, fields=search.INDEXED_FIELDS) -> list[set[tuple[str, bytes]]]:
    known = {}
    return [search.tokens(indexed_values(client, fields), known) for client in clients]


def indexed_values(client, fields=search.INDEXED_FIELDS) -> dict[str, str]:
    """A value that cannot be read has no tokens."""
    values = {name: getattr(client, name) for name in fields}
    return {name: str(value) for name, value in values.items() if value and not isinstance(value, Unreadable)}


class SearchToken(models.Model):
    """One keyed digest of one value of a client, or of a word's prefix. Internal: no history."""

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="search_tokens")
    kind = models.CharField(max_length=1, choices=search.Kind)
    digest = models.BinaryField(max_length=search.DIGEST_BYTES)

    objects = SearchTokenManager()

    class Meta:
        # Its index is the one that searches use.
        constraints = [models.UniqueConstraint(fields=["kind", "digest", "client"], name="search_token_unique")]


@receiver(post_save, sender=Client)
def index_loaded_client(sender, instance, raw, **kwargs):
    """For loaddata alone, which saves past `Client.save` and tells nobody else."""
    if raw:
        SearchToken.objects.refresh(instance)


@receiver(pre_save, sender=SearchToken)
def meet_loaded_token(sender, instance, raw, **kwargs):
    """For loaddata too: its client has his tokens already, and the key that a token had elsewhere may be another's here."""
    if raw:
        same = {"client": instance.client_id, "kind": instance.kind, "digest": instance.digest}
        instance.pk = SearchToken.objects.filter(**same).values_list("pk", flat=True).first()
