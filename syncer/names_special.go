package syncer

import (
	"slices"
	"strings"

	"mailgate/backend"
)

// specialUses lists those with one folder each (RFC 6154), and the names that mail programs give them, in lower case.
func specialUses() []struct {
	use   string
	names []string
} {
	return []struct {
		use   string
		names []string
	}{
		{`\Sent`, []string{
			"sent", "sent items", "sent messages", "sent mail", "sent-mail", "outbox.sent",
			"gesendet", "gesendete objekte", "gesendete elemente", "gesendete nachrichten", "postausgang gesendet",
			"envoyés", "envoyes", "éléments envoyés", "elements envoyes", "messages envoyés", "objets envoyés", "courrier envoyé", "boîte d'envoi envoyés",
			"inviata", "inviati", "posta inviata", "elementi inviati", "messaggi inviati",
			"enviados", "elementos enviados", "mensajes enviados", "correo enviado", "enviadas",
			"wysłane", "wyslane", "elementy wysłane", "wiadomości wysłane",
			"verzonden", "verzonden items", "verzonden objecten", "verzonden berichten",
			"itens enviados", "mensagens enviadas",
			"отправленные", "исходящие отправленные", "отправленное",
			"odeslané", "odeslaná pošta", "odoslané", "надіслані", "skickat", "skickade", "skickade objekt", "sendt", "sendte elementer", "sendt post",
			"lähetetyt", "lähetetyt viestit", "elküldött", "elküldött elemek", "gönderilmiş öğeler", "gönderilenler", "trimise", "elemente trimise",
			"απεσταλμένα", "送信済み", "送信済みアイテム", "已发送", "已发送邮件", "寄件備份", "보낸 편지함",
		}},
		{`\Drafts`, []string{
			"drafts", "draft", "entwürfe", "entwuerfe", "brouillons", "brouillon", "bozze", "borradores", "borrador", "szkice", "kopie robocze",
			"concepten", "rascunhos", "rascunho", "черновики", "koncepty", "rozepsané", "чернетки", "utkast", "kladder", "luonnokset", "piszkozatok", "taslaklar",
			"ciorne", "schițe", "πρόχειρα", "下書き", "草稿", "草稿箱", "임시 보관함",
		}},
		{`\Trash`, []string{
			"trash", "deleted items", "deleted messages", "deleted", "papierkorb", "gelöschte objekte", "gelöschte elemente", "gelöscht",
			"corbeille", "éléments supprimés", "elements supprimes", "messages supprimés", "cestino", "posta eliminata", "elementi eliminati",
			"papelera", "elementos eliminados", "kosz", "elementy usunięte", "prullenbak", "prullenmand", "verwijderde items", "verwijderde objecten",
			"lixeira", "lixo", "itens excluídos", "itens eliminados", "корзина", "удаленные", "удалённые", "koš", "odstraněná pošta", "kôš", "кошик", "видалені",
			"papperskorgen", "borttagna objekt", "papirkurv", "slettede elementer", "søppel", "roskakori", "poistetut", "lomtár", "törölt elemek", "kuka", "çöp kutusu", "silinmiş öğeler",
			"coș de gunoi", "elemente șterse", "κάδος", "διαγραμμένα", "ごみ箱", "削除済みアイテム", "已删除", "已删除邮件", "垃圾桶", "휴지통",
		}},
		{`\Junk`, []string{
			"junk", "spam", "junk e-mail", "junk email", "junk mail", "bulk mail", "unerwünscht", "spamverdacht", "unerwünschte werbung",
			"courrier indésirable", "indésirables", "pourriel", "posta indesiderata", "indesiderata", "correo no deseado", "no deseado",
			"wiadomości-śmieci", "niechciane", "ongewenste e-mail", "ongewenst", "reclame", "lixo eletrônico", "lixo electrónico", "correio eletrônico não solicitado",
			"нежелательная почта", "спам", "nevyžádaná pošta", "nevyžiadaná pošta", "небажана пошта", "skräppost", "uønsket e-post", "uønsket mail", "roskaposti",
			"levélszemét", "önemsiz", "önemsiz e-posta", "ανεπιθύμητα", "迷惑メール", "垃圾邮件", "스팸 메일함", "정크 메일",
		}},
		{`\Archive`, []string{
			"archive", "archives", "archiv", "archivio", "archivo", "archiwum", "archief", "arquivo", "arquivo morto", "архив", "архів",
			"arkiv", "arkisto", "archívum", "arşiv", "arhivă", "αρχείο", "アーカイブ", "存档", "归档", "보관함",
		}},
	}
}

// useOf is the special use that LIST tells, in the spelling of RFC 6154, "" for none.
func useOf(attributes []string) string {
	for _, a := range attributes {
		for _, s := range specialUses() {
			if strings.EqualFold(a, s.use) {
				return s.use
			}
		}
	}
	return ""
}

// virtual tells whether a mailbox only shows mail of others (RFC 6154, RFC 8457).
func virtual(attributes []string) bool {
	return hasAttribute(attributes, `\Flagged`) || hasAttribute(attributes, `\Important`)
}

func hasAttribute(attributes []string, name string) bool {
	return slices.ContainsFunc(attributes, func(a string) bool { return strings.EqualFold(a, name) })
}

func selectable(e backend.ListEntry) bool {
	return !hasAttribute(e.Attributes, `\Noselect`) && !hasAttribute(e.Attributes, `\NonExistent`)
}

// specialPaths tells where a side has a special use: by attribute, where exactly one folder bears it or one of those that do
// has the usual English name, else by name, where exactly one folder has one of the names. Folders named so lie at the top
// or right below INBOX.
func specialPaths(entries []entry) (byAttribute, byName map[string]path) {
	byAttribute, byName = map[string]path{}, map[string]path{}
	for _, s := range specialUses() {
		var marked, named []path
		for _, e := range entries {
			if !e.own || !e.selectable || e.path.inbox {
				continue
			}
			if e.use == s.use {
				marked = append(marked, e.path)
			}
			top := len(e.path.parts) == 1 || len(e.path.parts) == 2 && e.path.parts[0] == inboxName
			if top && e.use == "" && slices.Contains(s.names, strings.ToLower(e.path.parts[len(e.path.parts)-1])) {
				named = append(named, e.path)
			}
		}
		if len(marked) > 1 {
			marked = slices.DeleteFunc(marked, func(p path) bool { return len(p.parts) != 1 || strings.ToLower(p.parts[0]) != s.names[0] })
		}
		if len(marked) == 1 {
			byAttribute[s.use] = marked[0]
		}
		if len(named) == 1 {
			byName[s.use] = named[0]
		}
	}
	return byAttribute, byName
}
