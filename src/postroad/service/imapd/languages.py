"""What the server says to people, in the languages that LANGUAGE offers.

English is what the code says; the table has the rest, by the English text. A text that is not here
is told in English: better than not at all. Faults in a client's grammar (BAD) stay English, they
are for those who write clients.
Source: RFC 5255 §3.1 (i-default), §3.2 (ranges), RFC 4647 §3.4 (lookup).
"""

from __future__ import annotations

from collections.abc import Iterable

DEFAULT = "i-default"
LANGUAGES = ("en", "de", "fr", "es")
_COLUMNS = {"de": 0, "fr": 1, "es": 2}


def choose(ranges: Iterable[str]) -> str | None:
    """The language of the first range that is spoken here; None: no such language.

    A range is shortened from its end until a language fits: de-AT is served in de.
    """
    for wanted in ranges:
        subtags = wanted.lower().split("-")
        if wanted.lower() in ("default", DEFAULT, "*"):
            return DEFAULT
        while subtags:
            tag = "-".join(subtags)
            if tag in LANGUAGES:
                return tag
            subtags.pop()
            if subtags and len(subtags[-1]) == 1:  # RFC 4647 §3.4: a singleton goes with it
                subtags.pop()
    return None


def translate(text: str, language: str) -> str:
    column = _COLUMNS.get(language)
    if column is None:
        return text
    known = _TEXTS.get(text[:1].upper() + text[1:])
    return text if known is None else known[column]


_TEXTS: dict[str, tuple[str, str, str]] = {
    # -- done ---------------------------------------------------------------------------------
    "Done": ("Erledigt", "Fait", "Hecho"),
    "Appended": ("Abgelegt", "Ajouté", "Añadido"),
    "Begin TLS": ("TLS beginnt", "Début de TLS", "Comienza TLS"),
    "Closed": ("Geschlossen", "Fermé", "Cerrado"),
    "Copied": ("Kopiert", "Copié", "Copiado"),
    "Created": ("Angelegt", "Créé", "Creado"),
    "DEFLATE active": ("DEFLATE ist aktiv", "DEFLATE est actif", "DEFLATE está activo"),
    "Deleted": ("Gelöscht", "Supprimé", "Eliminado"),
    "Expunged": ("Endgültig gelöscht", "Supprimé définitivement", "Eliminado definitivamente"),
    "Fetched": ("Abgerufen", "Récupéré", "Recuperado"),
    "Log in again": (
        "Bitte neu anmelden",
        "Veuillez vous reconnecter",
        "Vuelva a iniciar sesión",
    ),
    "Logged in": ("Angemeldet", "Connecté", "Sesión iniciada"),
    "Made": ("Gemacht", "Créé", "Creado"),
    "Moved": ("Verschoben", "Déplacé", "Movido"),
    "No further updates": (
        "Keine weiteren Meldungen",
        "Plus de mises à jour",
        "No habrá más actualizaciones",
    ),
    "Nothing to expunge": ("Nichts zu löschen", "Rien à supprimer", "Nada que eliminar"),
    "Renamed": ("Umbenannt", "Renommé", "Renombrado"),
    "Replaced": ("Ersetzt", "Remplacé", "Reemplazado"),
    "Rights are removed": (
        "Die Rechte sind entzogen",
        "Les droits sont retirés",
        "Se han retirado los permisos",
    ),
    "Rights are set": (
        "Die Rechte sind gesetzt",
        "Les droits sont définis",
        "Se han asignado los permisos",
    ),
    "Searched": ("Durchsucht", "Recherche terminée", "Búsqueda terminada"),
    "Selected": ("Geöffnet", "Ouvert", "Abierto"),
    "Selected, read-only": (
        "Geöffnet, nur zum Lesen",
        "Ouvert en lecture seule",
        "Abierto solo para lectura",
    ),
    "Stored": ("Gespeichert", "Enregistré", "Guardado"),
    "Subscribed": ("Abonniert", "Abonné", "Suscrito"),
    "The key is new": ("Der Schlüssel ist neu", "La clé est nouvelle", "La clave es nueva"),
    "All keys are removed": (
        "Alle Schlüssel sind entfernt",
        "Toutes les clés sont supprimées",
        "Se han eliminado todas las claves",
    ),
    "The quota is set": (
        "Die Quote ist gesetzt",
        "Le quota est défini",
        "La cuota está definida",
    ),
    "Unselected": ("Verlassen", "Quitté", "Cerrado sin cambios"),
    "Unsubscribed": ("Abbestellt", "Désabonné", "Suscripción cancelada"),
    "You will be told": (
        "Sie werden benachrichtigt",
        "Vous serez prévenu",
        "Recibirá los avisos",
    ),
    "This language is spoken from now on": (
        "Ab jetzt auf Deutsch",
        "Désormais en français",
        "A partir de ahora en español",
    ),
    "You will be told nothing": (
        "Sie werden nicht benachrichtigt",
        "Vous ne serez prévenu de rien",
        "No recibirá avisos",
    ),
    "These languages are spoken": (
        "Diese Sprachen gibt es",
        "Voici les langues disponibles",
        "Estos son los idiomas disponibles",
    ),
    # -- mailboxes ----------------------------------------------------------------------------
    "A mailbox cannot be created for this use": (
        "Für diesen Zweck kann kein Postfach angelegt werden",
        "Aucun dossier ne peut être créé pour cet usage",
        "No se puede crear un buzón para este uso",
    ),
    "A mailbox cannot become its own inferior": (
        "Ein Postfach kann nicht unter sich selbst liegen",
        "Un dossier ne peut pas devenir son propre sous-dossier",
        "Un buzón no puede quedar dentro de sí mismo",
    ),
    "A mailbox cannot change its owner": (
        "Ein Postfach kann den Besitzer nicht wechseln",
        "Un dossier ne peut pas changer de propriétaire",
        "Un buzón no puede cambiar de propietario",
    ),
    "A mailbox cannot have this use": (
        "Ein Postfach kann diesen Zweck nicht haben",
        "Un dossier ne peut pas avoir cet usage",
        "Un buzón no puede tener este uso",
    ),
    "A mailbox name cannot hold * or %": (
        "Der Name eines Postfachs darf weder * noch % enthalten",
        "Le nom d'un dossier ne peut contenir ni * ni %",
        "El nombre de un buzón no puede contener * ni %",
    ),
    "A mailbox name cannot hold control characters": (
        "Der Name eines Postfachs darf keine Steuerzeichen enthalten",
        "Le nom d'un dossier ne peut pas contenir de caractères de contrôle",
        "El nombre de un buzón no puede contener caracteres de control",
    ),
    "Another mailbox has this use": (
        "Ein anderes Postfach hat diesen Zweck",
        "Un autre dossier a cet usage",
        "Otro buzón tiene este uso",
    ),
    "Every level of a mailbox name needs a name": (
        "Jede Ebene eines Postfachs braucht einen Namen",
        "Chaque niveau d'un dossier doit avoir un nom",
        "Cada nivel de un buzón necesita un nombre",
    ),
    "INBOX cannot be deleted": (
        "INBOX kann nicht gelöscht werden",
        "INBOX ne peut pas être supprimé",
        "INBOX no se puede eliminar",
    ),
    "The mailbox is open read-only": (
        "Das Postfach ist nur zum Lesen geöffnet",
        "Le dossier est ouvert en lecture seule",
        "El buzón está abierto solo para lectura",
    ),
    "The mailbox name is too long": (
        "Der Name des Postfachs ist zu lang",
        "Le nom du dossier est trop long",
        "El nombre del buzón es demasiado largo",
    ),
    "The mailbox name has too many levels": (
        "Der Name des Postfachs hat zu viele Ebenen",
        "Le nom du dossier a trop de niveaux",
        "El nombre del buzón tiene demasiados niveles",
    ),
    "The selected mailbox was deleted": (
        "Das geöffnete Postfach wurde gelöscht",
        "Le dossier ouvert a été supprimé",
        "El buzón abierto ha sido eliminado",
    ),
    "There is no such mailbox": (
        "Dieses Postfach gibt es nicht",
        "Ce dossier n'existe pas",
        "Ese buzón no existe",
    ),
    "There is no such mailbox any more": (
        "Dieses Postfach gibt es nicht mehr",
        "Ce dossier n'existe plus",
        "Ese buzón ya no existe",
    ),
    "There are too many subscriptions: remove some": (
        "Zu viele Abonnements: bitte einige entfernen",
        "Trop d'abonnements : supprimez-en quelques-uns",
        "Demasiadas suscripciones: elimine algunas",
    ),
    "So many mailboxes cannot be watched": (
        "So viele Postfächer können nicht beobachtet werden",
        "Autant de dossiers ne peuvent pas être surveillés",
        "No se pueden vigilar tantos buzones",
    ),
    # -- messages -----------------------------------------------------------------------------
    "Some messages cannot be read now": (
        "Einige Nachrichten sind gerade nicht lesbar",
        "Certains messages ne peuvent pas être lus pour le moment",
        "Algunos mensajes no se pueden leer ahora",
    ),
    "Some URLs cannot be read now": (
        "Einige URLs sind gerade nicht lesbar",
        "Certaines URL ne peuvent pas être lues pour le moment",
        "Algunas URL no se pueden leer ahora",
    ),
    "The message is not there any more": (
        "Die Nachricht ist nicht mehr da",
        "Le message n'est plus là",
        "El mensaje ya no está",
    ),
    "The message is too big": (
        "Die Nachricht ist zu groß",
        "Le message est trop volumineux",
        "El mensaje es demasiado grande",
    ),
    "There is no message in it": (
        "Es ist keine Nachricht darin",
        "Il ne contient aucun message",
        "No contiene ningún mensaje",
    ),
    "There is no such message": (
        "Diese Nachricht gibt es nicht",
        "Ce message n'existe pas",
        "Ese mensaje no existe",
    ),
    "There are no such messages": (
        "Diese Nachrichten gibt es nicht",
        "Ces messages n'existent pas",
        "Esos mensajes no existen",
    ),
    "There are no such messages any more": (
        "Diese Nachrichten gibt es nicht mehr",
        "Ces messages n'existent plus",
        "Esos mensajes ya no existen",
    ),
    "These are too many messages for one command": (
        "Das sind zu viele Nachrichten für einen Befehl",
        "Cela fait trop de messages pour une seule commande",
        "Son demasiados mensajes para una sola orden",
    ),
    "A message cannot hold NUL, but in a binary literal": (
        "Eine Nachricht kann NUL nur in einem binären Literal enthalten",
        "Un message ne peut contenir NUL que dans un littéral binaire",
        "Un mensaje solo puede contener NUL en un literal binario",
    ),
    "The charset is not known": (
        "Der Zeichensatz ist nicht bekannt",
        "Le jeu de caractères est inconnu",
        "El juego de caracteres es desconocido",
    ),
    "There is no such filter": (
        "Diesen Filter gibt es nicht",
        "Ce filtre n'existe pas",
        "Ese filtro no existe",
    ),
    "There is no such search that is kept up to date": (
        "Diese laufende Suche gibt es nicht",
        "Cette recherche suivie n'existe pas",
        "Esa búsqueda en curso no existe",
    ),
    # -- rights, quotas, annotations ----------------------------------------------------------
    "You have no right to add messages here": (
        "Sie dürfen hier keine Nachrichten ablegen",
        "Vous n'avez pas le droit d'ajouter des messages ici",
        "No tiene permiso para añadir mensajes aquí",
    ),
    "You have no right to change these flags": (
        "Sie dürfen diese Markierungen nicht ändern",
        "Vous n'avez pas le droit de modifier ces indicateurs",
        "No tiene permiso para cambiar estas marcas",
    ),
    "You have no right to change this here": (
        "Sie dürfen das hier nicht ändern",
        "Vous n'avez pas le droit de modifier cela ici",
        "No tiene permiso para cambiar esto aquí",
    ),
    "You have no right to create mailboxes there": (
        "Sie dürfen dort keine Postfächer anlegen",
        "Vous n'avez pas le droit d'y créer des dossiers",
        "No tiene permiso para crear buzones ahí",
    ),
    "You have no right to do this here": (
        "Dazu haben Sie hier kein Recht",
        "Vous n'avez pas le droit de faire cela ici",
        "No tiene permiso para hacer esto aquí",
    ),
    "You have no right to expunge here": (
        "Sie dürfen hier nicht endgültig löschen",
        "Vous n'avez pas le droit de supprimer définitivement ici",
        "No tiene permiso para eliminar definitivamente aquí",
    ),
    "You have no right to remove messages here": (
        "Sie dürfen hier keine Nachrichten entfernen",
        "Vous n'avez pas le droit de retirer des messages ici",
        "No tiene permiso para quitar mensajes aquí",
    ),
    "You have no right to take messages out of here": (
        "Sie dürfen hier keine Nachrichten herausnehmen",
        "Vous n'avez pas le droit de sortir des messages d'ici",
        "No tiene permiso para sacar mensajes de aquí",
    ),
    "You may no longer read the selected mailbox": (
        "Sie dürfen das geöffnete Postfach nicht mehr lesen",
        "Vous n'avez plus le droit de lire le dossier ouvert",
        "Ya no tiene permiso para leer el buzón abierto",
    ),
    "There is no such account to share with": (
        "Dieses Konto gibt es nicht",
        "Ce compte n'existe pas",
        "Esa cuenta no existe",
    ),
    "The owner of a mailbox keeps every right on it": (
        "Der Besitzer eines Postfachs behält alle Rechte daran",
        "Le propriétaire d'un dossier y garde tous les droits",
        "El propietario de un buzón conserva todos los permisos",
    ),
    "Quotas are set by who administers the server": (
        "Quoten setzt, wer den Server verwaltet",
        "Les quotas sont définis par l'administrateur du serveur",
        "Las cuotas las define el administrador del servidor",
    ),
    "There is no such quota root": (
        "Diese Quotenwurzel gibt es nicht",
        "Cette racine de quota n'existe pas",
        "Esa raíz de cuota no existe",
    ),
    "This is set by who administers the server": (
        "Das setzt, wer den Server verwaltet",
        "Cela est défini par l'administrateur du serveur",
        "Esto lo define el administrador del servidor",
    ),
    "The use of a mailbox is its owner's to set": (
        "Den Zweck eines Postfachs bestimmt sein Besitzer",
        "L'usage d'un dossier est défini par son propriétaire",
        "El uso de un buzón lo define su propietario",
    ),
    "INBOX has no other use": (
        "INBOX hat keinen anderen Zweck",
        "INBOX n'a pas d'autre usage",
        "INBOX no tiene otro uso",
    ),
    "INTERNAL is the only mechanism": (
        "INTERNAL ist das einzige Verfahren",
        "INTERNAL est le seul mécanisme",
        "INTERNAL es el único mecanismo",
    ),
    "There are too many annotations: remove some": (
        "Zu viele Anmerkungen: bitte einige entfernen",
        "Trop d'annotations : supprimez-en quelques-unes",
        "Demasiadas anotaciones: elimine algunas",
    ),
    "The value is too long": (
        "Der Wert ist zu lang",
        "La valeur est trop longue",
        "El valor es demasiado largo",
    ),
    # -- logging in and the connection --------------------------------------------------------
    "User name or password is wrong": (
        "Benutzername oder Passwort ist falsch",
        "Nom d'utilisateur ou mot de passe incorrect",
        "El usuario o la contraseña no son correctos",
    ),
    "Passwords travel inside TLS only": (
        "Passwörter werden nur innerhalb von TLS angenommen",
        "Les mots de passe ne sont acceptés que sous TLS",
        "Las contraseñas solo se aceptan dentro de TLS",
    ),
    "The mechanism is not offered": (
        "Dieses Verfahren wird nicht angeboten",
        "Ce mécanisme n'est pas proposé",
        "Ese mecanismo no se ofrece",
    ),
    "Not now, please try again later": (
        "Gerade nicht möglich, bitte später noch einmal versuchen",
        "Impossible pour le moment, veuillez réessayer plus tard",
        "Ahora no es posible, inténtelo más tarde",
    ),
    "Internal error; it has been recorded": (
        "Interner Fehler; er wurde aufgezeichnet",
        "Erreur interne ; elle a été enregistrée",
        "Error interno; ha quedado registrado",
    ),
    "DEFLATE is active already": (
        "DEFLATE ist schon aktiv",
        "DEFLATE est déjà actif",
        "DEFLATE ya está activo",
    ),
    "This language is not spoken here": (
        "Diese Sprache gibt es hier nicht",
        "Cette langue n'est pas prise en charge",
        "Este idioma no está disponible",
    ),
    "Idle for too long": (
        "Zu lange untätig",
        "Inactif depuis trop longtemps",
        "Demasiado tiempo inactivo",
    ),
    "Too many bad commands": (
        "Zu viele falsche Befehle",
        "Trop de commandes erronées",
        "Demasiadas órdenes erróneas",
    ),
    "Too many failed logins": (
        "Zu viele fehlgeschlagene Anmeldungen",
        "Trop d'échecs de connexion",
        "Demasiados inicios de sesión fallidos",
    ),
    "The server is stopping": (
        "Der Server wird angehalten",
        "Le serveur s'arrête",
        "El servidor se está deteniendo",
    ),
    "The account is gone": (
        "Das Konto gibt es nicht mehr",
        "Le compte n'existe plus",
        "La cuenta ya no existe",
    ),
    "Until next time": ("Bis zum nächsten Mal", "À bientôt", "Hasta la próxima"),
}
