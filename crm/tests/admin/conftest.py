import pytest

from crm.models import User


@pytest.fixture
def browse(client):
    def as_user(user):
        User.objects.filter(pk=user.pk).update(language="en")
        client.force_login(user)
        return client

    return as_user
