"""Named errors. Their text is for the person at the desk; they carry references and ids, never personal data."""

from django.utils.translation import gettext_lazy as _


class CrmError(Exception):
    """A rule of the office says no. `str(error)` is a sentence in the reader's language."""

    message = _("This cannot be done.")
    # Whether a job's next try would meet it too.
    is_final = True

    def __init__(self, message=None, **details):
        self.details = details
        super().__init__(message or self.message)

    def __str__(self) -> str:
        return str(self.args[0]) % self.details if self.details else str(self.args[0])


class EncryptedFieldError(CrmError):
    message = _("Encrypted values can be neither compared, sorted nor computed in the database.")


class CiphertextRefused(CrmError):
    message = _("This looks like an encrypted value. Type the plain text instead.")


class NotAllowed(CrmError):
    message = _("Your role does not allow this.")


class CaseNotActive(CrmError):
    message = _("Case %(case)s is not active, so its steps cannot change. Reopen the case first.")


class StepAlreadyDone(CrmError):
    message = _("Step %(step)s of case %(case)s is already done: somebody was faster.")


class StepNotDone(CrmError):
    message = _("Step %(step)s of case %(case)s is pending already.")


class EarlierStepsPending(CrmError):
    message = _("Step %(step)s of case %(case)s has to wait for step %(blocking)s. A manager may override the order.")


class ReasonMissing(CrmError):
    message = _("Give a reason.")


class CannotTakeCase(CrmError):
    message = _("A case needs somebody who works here and may change cases.")


class DayToCome(CrmError):
    message = _("This day is yet to come.")


class WrongStatus(CrmError):
    message = _("Case %(case)s is %(status)s, so this cannot be done.")


class ImpossibleValue(CrmError):
    message = _("This value is not possible.")


class DatabaseNotEmpty(CrmError):
    message = _("The database holds other data already. The demo office goes into an empty one only.")


class NotInProduction(CrmError):
    message = _("This is for a desk with DEBUG=1 only, never for production.")


class AuditKeyMissing(CrmError):
    message = _(
        "AUDIT_KEY is not set, so nothing can be sealed or verified. Make one with "
        "python -c 'import secrets; print(secrets.token_hex(32))' and keep a copy outside this machine."
    )


class SealBroken(CrmError):
    message = _("Row %(row)s of %(table)s is not what was sealed. Run verify_audit.")


class AuditNotWhole(CrmError):
    message = _(
        "The history is not what was sealed. The page of the audit trail names the first row; so does verify_audit."
    )


class AnchorAhead(CrmError):
    message = _(
        "The anchor knows seal %(number)s of %(at)s, which this database has not: its end was cut off or an older copy "
        "was put back. If that was done on purpose, put the anchor file aside, keep it, and run seal_audit --new-anchor."
    )


class AnchorLost(CrmError):
    message = _(
        "The anchor is gone or empty, although seal %(number)s was made for it. Put the file back; if it is lost for good, "
        "run seal_audit --new-anchor."
    )


class BrokenText(CrmError):
    message = _("This text cannot be used.")


class ReportsNotMade(CrmError):
    is_final = False
    message = _("The weekly reports of %(count)s people could not be made.")


class NoticesNotMailed(CrmError):
    message = _("The notices of %(count)s recipients could not be mailed. They are tried again.")


class DumpFailed(CrmError):
    is_final = False
    message = _("The database could not be read to its end: %(why)s")


class LoadFailed(CrmError):
    message = _("The backup could not be loaded into the database: %(why)s")


class BackupDamaged(CrmError):
    message = _(
        "%(file)s is damaged at byte %(at)s or cut off: nothing of it is used. Take an older backup, or this one's copy elsewhere."
    )


class OffsiteFailed(CrmError):
    is_final = False
    message = _("The off-site store of backups %(why)s.")


class CopyTaken(OffsiteFailed):
    """By another backup of the name: of one file only, and until somebody does something about it."""

    is_final = True


class NoStore(CrmError):
    message = _(
        "No off-site store is named: set S3_BUCKET, S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, and S3_ENDPOINT_URL for all but Amazon's."
    )


class BackupNotFound(CrmError):
    message = _(
        "There is no %(file)s, neither here nor in the off-site store. Ask what that holds: manage.py restore --list"
    )


class BackupNotHere(CrmError):
    message = _("There is no %(file)s here, nor in %(folder)s. To look in an off-site store, too, set S3_BUCKET.")


class NotABackup(BackupDamaged):
    message = _("%(file)s is empty or no backup of this program. Take another file.")


class BackupGone(CrmError):
    message = _("%(file)s is not on this machine any more.")


class BackupTooNew(CrmError):
    message = _("%(file)s was made by a newer version of this program. Install that version, then try again.")


class BackupKeyMissing(CrmError):
    message = _("%(file)s needs the key %(fingerprint)s, which BACKUP_KEY does not hold. Add it there after a comma.")


class NoRoom(CrmError):
    message = _("There is no room in %(place)s, so nothing was changed. Free some space there, then try again.")


class FileMayNotGrow(NoRoom):
    message = _(
        "There is no room in %(place)s, so nothing was changed: a file of this program may have %(limit)s bytes at most. "
        "Raise that limit (ulimit -f, or LimitFSIZE= of its unit), then try again."
    )


class NoRoomForBackup(NoRoom):
    message = _(
        "There is no room for a backup in %(folder)s: nothing of it was kept. Free some space there, or set BACKUP_DIR to a folder that has more."
    )


class BackupFolderUnusable(CrmError):
    message = _(
        "The folder of backups %(folder)s cannot be written: %(why)s. Give it to the user of this program, or set BACKUP_DIR to another one."
    )


class BackupDiffers(CrmError):
    message = _("What came out of the backup is not what went in: %(tables)s. Take another backup.")


class OtherEngine(CrmError):
    message = _("%(file)s is of %(made)s and cannot go into %(target)s.")


class KeyMissing(CrmError):
    message = _(
        "%(file)s was written with the key %(fingerprint)s, which %(name)s does not hold. Set that key, then try again."
    )


class TargetInUse(CrmError):
    message = _("The database to restore into is in use (%(why)s). Stop web and worker, then try again.")


class TargetNotEmpty(CrmError):
    message = _("The database to restore into is not empty. With --yes it is replaced, after a safety backup of it.")


class TargetNotOurs(CrmError):
    message = _(
        "The database to restore into holds other tables than an office's, of which there can be no safety backup. Name an empty one."
    )


class TargetHeld(CrmError):
    message = _(
        "Other schemas of the database to restore into hold what would go with its tables, and is in no backup: %(names)s. Drop that, and make it again after the restore."
    )


class TargetDamaged(CrmError):
    message = _(
        "The database to restore into is damaged or none at all, so there can be no safety backup of it. Move its file aside, then try again."
    )


class FilesInTheWay(CrmError):
    message = _(
        "The file %(name)s is stored here with another content, which is not this database's: it is not written over. Move the folder of files aside, or name another one with DATA_DIR, then try again."
    )


class RestoreFailed(CrmError):
    message = _("The backup could not be restored, and nothing was changed: %(why)s")


class StillActive(CrmError):
    message = _(
        "The client's relationship with the office is not over: %(cases)s. Finish, reject or withdraw that first."
    )


class ClientRestricted(CrmError):
    message = _("The client's record is restricted and stays as it is.")


class AlreadyErased(CrmError):
    message = _("Client %(client)s was erased already.")


class AlreadyRestricted(CrmError):
    message = _("Client %(client)s is restricted already, and is erased after %(day)s.")


class NotALedger(CrmError):
    message = _("Line %(line)s is none of an erasure ledger (%(why)s), so nothing of it was taken.")


class BackupNotMade(CrmError):
    """Says what is wrong, and its cure."""

    message = _("No backup was made.")


class BackupKeyNotSet(BackupNotMade):
    message = _(
        "BACKUP_KEY is not set, so no backup can be made. Make one with python -c 'import secrets; print(secrets.token_hex(32))', set it, and keep a copy outside this machine."
    )


class StoredFileChanged(BackupNotMade):
    is_final = False
    message = _(
        "A stored file changed or vanished while it was read, three times in a row, so no backup was made. Try again when nobody uploads."
    )


class StoredFileUnreadable(BackupNotMade):
    message = _(
        "The stored file %(name)s cannot be read, so no backup was made: %(why)s. Put it right or take it away, then try again."
    )


class BackupsAmongFiles(BackupNotMade):
    message = _(
        "BACKUP_DIR (%(folder)s) lies among the stored files, so every backup would hold all earlier ones. Set it to a folder outside."
    )


class NoPlaceForFile(CrmError):
    message = _(
        "A stored file of the backup could not be put in its place, so nothing was changed: %(path)s (%(why)s). Give that to the user of this program, or move it aside, then try again."
    )


class FileNotPlaced(CrmError):
    message = _(
        "The database is restored, but the file %(name)s could not be put in its place. See who may write into the folder of files: the next start of the worker and the next backup try again. Or restore once more."
    )


class FilesNotHere(CrmError):
    message = _(
        "Files of the last restore are still to be put in their places, and the folder %(folder)s, in which they lie, is not among the stored files here. Start the worker where it is, or restore again."
    )


class RestoreRuns(CrmError):
    is_final = False
    message = _(
        "A restore or a backup is at work among the same stored files. Wait until it has ended, then try again."
    )
