"""Invented people with numbers that check out. Names and places are Faker's, everything is drawn from one seeded
generator, so that the same seed makes the same people on the same day."""

import datetime
import random
from dataclasses import dataclass

from faker import Faker

from crm.models import Client
from crm.search import fold

BANK_CODES = ("0100", "0300", "0600", "0800", "2010", "3030", "5500", "6210")
ACCOUNT_WEIGHTS = (6, 3, 7, 9, 10, 5, 8, 4, 2, 1)
BUSINESS_ID_WEIGHTS = (8, 7, 6, 5, 4, 3, 2)
TITLES = ("Ing.", "Mgr.", "Bc.", "MUDr.")
PLACES = 400


def feminine(surname: str) -> str:
    if surname.endswith("ý"):
        return surname[:-1] + "á"
    if surname.endswith(("ek", "ec", "el")):
        return surname[:-2] + surname[-1] + "ová"
    return surname.removesuffix("a") + "ová"


def birth_number(dice: random.Random, born: datetime.date, *, female: bool) -> str:
    """Nine digits before 1954; later ten, the whole divisible by eleven."""
    date = f"{born:%y}{born.month + (50 if female else 0):02}{born:%d}"
    if born.year < 1954:
        return f"{date}/{dice.randint(1, 999):03}"
    while True:
        serial = dice.randint(1, 999)
        check = int(f"{date}{serial:03}") % 11
        if check < 10:  # with 10 the last digit is 0 and the number not divisible: only some old numbers are like that
            return f"{date}/{serial:03}{check}"


def bank_account(dice: random.Random) -> str:
    while True:
        number = f"{dice.randint(10**8, 10**9 - 1)}0".zfill(10)
        missing = -sum(weight * int(digit) for weight, digit in zip(ACCOUNT_WEIGHTS, number, strict=True)) % 11
        if missing < 10:
            return f"{number[:-1].lstrip('0')}{missing}/{dice.choice(BANK_CODES)}"


def business_id(dice: random.Random) -> str:
    number = str(dice.randint(1_000_000, 8_999_999))
    total = sum(weight * int(digit) for weight, digit in zip(BUSINESS_ID_WEIGHTS, number, strict=True))
    return f"{number}{(11 - total % 11) % 10}"


@dataclass(frozen=True)
class Address:
    street: str
    city: str
    postal_code: str


class People:
    """Draws people; Faker is asked once for its lists, because it takes most of the time otherwise."""

    def __init__(self, dice: random.Random, office: dict, today: datetime.date):
        self.dice = dice
        self.employers = office["employers"]
        self.today = today
        fake = Faker("cs_CZ")
        fake.seed_instance(dice.getrandbits(32))
        names = next(provider for provider in fake.get_providers() if hasattr(provider, "last_names_female"))
        self.first_names = {False: list(names.first_names_male), True: list(names.first_names_female)}
        known = set(names.last_names_female)
        self.surnames = [name for name in names.last_names_male if feminine(name) in known]
        self.streets = [fake.street_name() for _ in range(PLACES)]
        self.cities = [(fake.city_name(), fake.postcode()) for _ in range(PLACES)]
        self.drawn = 0

    def surname(self) -> str:
        return self.dice.choice(self.surnames)

    def address(self) -> Address:
        city, postal_code = self.dice.choice(self.cities)
        return Address(f"{self.dice.choice(self.streets)} {self.dice.randint(1, 190)}", city, postal_code)

    def person(self, number: int, *, female: bool, surname: str, address: Address, ages=(22, 62)) -> Client:
        """An unsaved client. `number` tells his e-mail and document from everybody else's."""
        dice = self.dice
        last = feminine(surname) if female else surname
        first = dice.choice(self.first_names[female])
        born = self.today - datetime.timedelta(days=dice.randint(ages[0] * 366, ages[1] * 365))
        owner = dice.random() < 0.18
        client = Client(
            full_name=f"{dice.choice(TITLES)} {first} {last}" if dice.random() < 0.15 else f"{first} {last}",
            email=f"{fold(first)}.{fold(last)}.{number}@example.com",
            phone=f"+420 700 {number // 1000 % 1000:03} {number % 1000:03}",
            birth_number=birth_number(dice, born, female=female),
            birth_date=born,
            birth_place=dice.choice(self.cities)[0],
            street=address.street,
            city=address.city,
            postal_code=address.postal_code,
            id_document_number=f"{200_000_000 + number * 7}",
            id_document_issuer=f"MěÚ {address.city}",
            id_document_valid_until=self.today + datetime.timedelta(days=dice.randint(-30, 3000)),
            bank_account=bank_account(dice),
            employer="" if owner else dice.choice(self.employers),
            business_id=business_id(dice) if owner else "",
            citizenship="CZ",
        )
        if dice.random() < 0.1:
            client.mailing_address = f"{dice.choice(self.streets)} {dice.randint(1, 99)}, {dice.choice(self.cities)[0]}"
        if dice.random() < 0.04:  # a foreigner: no birth number
            client.citizenship, client.birth_number = dice.choice(("SK", "UA", "VN", "PL")), ""
        if dice.random() < 0.2:
            client.note = dice.choice(("Volat po 16. hodině.", "Preferuje e-mail.", "Doporučil známý.", "Má psa."))
        return client

    def household(self, number: int, *, couple: bool) -> list[Client]:
        """One person or a couple of one name and address; one in thirty is old enough for a nine-digit number."""
        surname, address = self.surname(), self.address()
        ages = (74, 86) if number % 30 == 29 else (22, 62)
        female = self.dice.random() < 0.5
        people = [self.person(number, female=female, surname=surname, address=address, ages=ages)]
        if couple:
            people.append(self.person(number + 1, female=not female, surname=surname, address=address, ages=ages))
        return people
