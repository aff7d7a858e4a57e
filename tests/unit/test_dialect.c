/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "tunnel/dialect.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct pair {
	const char *from, *to;
};

/* Single quotes stand for double ones, so that the tables can be read. */
static json_t *
parse(const char *text)
{
	char *copy = strdup(text);
	json_t *value = NULL;

	for (char *p = copy; *p != '\0'; p++)
		if (*p == '\'')
			*p = '"';
	if (json_parse(copy, strlen(copy), &value, NULL) != ERR_OK)
		fail_msg("no JSON: %s", text);
	free(copy);
	return value;
}

static void
check(const struct pair *pair, bool to_ga)
{
	json_t *event = parse(pair->from), *expected = parse(pair->to);
	char *text;

	if (to_ga)
		dialect_to_ga(event);
	else
		assert_true(dialect_to_beta(event));
	text = json_text(event, NULL);
	if (!json_equal(event, expected))
		fail_msg("%s became %s", pair->from, text);
	free(text);
	json_decref(event);
	json_decref(expected);
}

static void
check_all(const struct pair *pairs, size_t count, bool to_ga)
{
	for (size_t i = 0; i < count; i++)
		check(&pairs[i], to_ga);
}

static void
moves_the_members_of_a_session_update(void **state)
{
	static const struct pair cases[] = {
#define UPDATE(members) "{'type':'session.update','session':{" members "}}"
#define GA(members)	UPDATE("'type':'realtime'" members)
		{ UPDATE(""), GA("") },
		{ UPDATE("'instructions':'a','tools':[],'tool_choice':'auto',"
			 "'tracing':'auto'"),
		    GA(",'instructions':'a','tools':[],'tool_choice':'auto',"
		       "'tracing':'auto'") },
		{ UPDATE("'modalities':['text','audio']"),
		    GA(",'output_modalities':['audio']") },
		{ UPDATE("'modalities':['audio']"),
		    GA(",'output_modalities':['audio']") },
		{ UPDATE("'modalities':['text']"),
		    GA(",'output_modalities':['text']") },
		{ UPDATE("'modalities':'text'"),
		    GA(",'output_modalities':'text'") },
		{ UPDATE("'input_audio_format':'pcm16',"
			 "'output_audio_format':'g711_ulaw'"),
		    GA(",'audio':{'input':{'format':{'type':'audio/pcm',"
		       "'rate':24000}},"
		       "'output':{'format':{'type':'audio/pcmu'}}}") },
		{ UPDATE("'input_audio_format':'g711_alaw'"),
		    GA(",'audio':{'input':{'format':"
		       "{'type':'audio/pcma'}}}") },
		{ UPDATE("'input_audio_format':'mp3'"),
		    GA(",'audio':{'input':{'format':'mp3'}}") },
		{ UPDATE("'input_audio_format':null"),
		    GA(",'audio':{'input':{'format':null}}") },
		{ UPDATE("'voice':'sage','speed':1.1"),
		    GA(",'audio':{'output':{'voice':'sage','speed':1.1}}") },
		{ UPDATE("'input_audio_transcription':{'model':'whisper-1'},"
			 "'input_audio_noise_reduction':{'type':'near_field'},"
			 "'turn_detection':{'type':'server_vad'}"),
		    GA(",'audio':{'input':{"
		       "'transcription':{'model':'whisper-1'},"
		       "'noise_reduction':{'type':'near_field'},"
		       "'turn_detection':{'type':'server_vad'}}}") },
		{ UPDATE("'turn_detection':null"),
		    GA(",'audio':{'input':{'turn_detection':null}}") },
		{ UPDATE("'max_response_output_tokens':'inf'"),
		    GA(",'max_output_tokens':'inf'") },
		{ UPDATE("'temperature':0.8,'model':'gpt-4o-realtime-preview',"
			 "'client_secret':{}"),
		    GA("") },
		{ UPDATE("'type':'realtime','audio':{'output':{'speed':1}},"
			 "'voice':'sage'"),
		    GA(",'audio':{'output':{'speed':1,'voice':'sage'}}") },
		{ UPDATE("'audio':7,'voice':'sage'"),
		    GA(",'audio':{'output':{'voice':'sage'}}") },
		{ UPDATE("'audio':{'output':[]},'voice':'sage'"),
		    GA(",'audio':{'output':{'voice':'sage'}}") },
		{ UPDATE("'unknown':1"), GA(",'unknown':1") },
		{ "{'type':'session.update'}", "{'type':'session.update'}" },
		{ "{'type':'session.update','session':null}",
		    "{'type':'session.update','session':null}" },
#undef UPDATE
#undef GA
	};

	(void)state;
	check_all(cases, COUNT(cases), true);
}

static void
makes_a_transcription_session_one_of_that_type(void **state)
{
	static const struct pair cases[] = {
		{ "{'type':'transcription_session.update','event_id':'e',"
		  "'session':{'modalities':['text'],'include':['a'],"
		  "'input_audio_format':'pcm16',"
		  "'input_audio_transcription':{'model':'whisper-1'}}}",
		    "{'type':'session.update','event_id':'e','session':{"
		    "'type':'transcription','include':['a'],'audio':{'input':{"
		    "'format':{'type':'audio/pcm','rate':24000},"
		    "'transcription':{'model':'whisper-1'}}}}}" },
	};

	(void)state;
	check_all(cases, COUNT(cases), true);
}

static void
moves_the_members_of_a_response_to_create(void **state)
{
	static const struct pair cases[] = {
		{ "{'type':'response.create'}", "{'type':'response.create'}" },
		{ "{'type':'response.create','response':{"
		  "'modalities':['audio','text'],'instructions':'a',"
		  "'voice':'ash','output_audio_format':'pcm16',"
		  "'temperature':1,'max_response_output_tokens':9,"
		  "'conversation':'none','metadata':{'voice':'b'},"
		  "'input':[{'type':'message','role':'assistant',"
		  "'content':[{'type':'text','text':'a'}]}]}}",
		    "{'type':'response.create','response':{"
		    "'output_modalities':['audio'],'instructions':'a',"
		    "'audio':{'output':{'voice':'ash','format':"
		    "{'type':'audio/pcm','rate':24000}}},"
		    "'max_output_tokens':9,"
		    "'conversation':'none','metadata':{'voice':'b'},"
		    "'input':[{'type':'message','role':'assistant',"
		    "'content':[{'type':'output_text','text':'a'}]}]}}" },
		{ "{'type':'response.create','response':"
		  "{'max_output_tokens':'inf'}}",
		    "{'type':'response.create','response':"
		    "{'max_output_tokens':'inf'}}" },
	};

	(void)state;
	check_all(cases, COUNT(cases), true);
}

static void
renames_what_an_item_holds(void **state)
{
	static const struct pair cases[] = {
#define ITEM(role, type)                                                       \
	"{'type':'conversation.item.create','previous_item_id':'x',"           \
	"'item':{'type':'message','role':'" role "','content':[{'type':'" type \
	"','text':'a'}]}}"
		{ ITEM("assistant", "text"), ITEM("assistant", "output_text") },
		{ ITEM("assistant", "audio"),
		    ITEM("assistant", "output_audio") },
		{ ITEM("user", "input_text"), ITEM("user", "input_text") },
		{ ITEM("user", "input_audio"), ITEM("user", "input_audio") },
		{ ITEM("user", "text"), ITEM("user", "text") },
		{ ITEM("system", "input_text"), ITEM("system", "input_text") },
#undef ITEM
	};

	(void)state;
	check_all(cases, COUNT(cases), true);
}

static void
leaves_what_both_have_in_common(void **state)
{
	static const struct pair cases[] = {
		{ "{'type':'input_audio_buffer.append','audio':'AAAA'}",
		    "{'type':'input_audio_buffer.append','audio':'AAAA'}" },
		{ "{'type':'response.cancel'}", "{'type':'response.cancel'}" },
		{ "{'type':'later','item':3,'response':[],'session':'a'}",
		    "{'type':'later','item':3,'response':[],'session':'a'}" },
		{ "[]", "[]" },
		{ "{}", "{}" },
	};

	(void)state;
	check_all(cases, COUNT(cases), true);
	check_all(cases, COUNT(cases), false);
}

static void
renames_the_events_of_the_vendor(void **state)
{
	static const struct pair cases[] = {
		{ "{'type':'response.output_text.delta','delta':'a'}",
		    "{'type':'response.text.delta','delta':'a'}" },
		{ "{'type':'response.output_text.done','text':'a'}",
		    "{'type':'response.text.done','text':'a'}" },
		{ "{'type':'response.output_audio.delta','delta':'AA'}",
		    "{'type':'response.audio.delta','delta':'AA'}" },
		{ "{'type':'response.output_audio.done'}",
		    "{'type':'response.audio.done'}" },
		{ "{'type':'response.output_audio_transcript.delta'}",
		    "{'type':'response.audio_transcript.delta'}" },
		{ "{'type':'response.output_audio_transcript.done'}",
		    "{'type':'response.audio_transcript.done'}" },
		{ "{'type':'conversation.item.added','previous_item_id':null,"
		  "'item':{'role':'assistant','content':["
		  "{'type':'output_audio','transcript':'a'}]}}",
		    "{'type':'conversation.item.created',"
		    "'previous_item_id':null,"
		    "'item':{'role':'assistant','content':["
		    "{'type':'audio','transcript':'a'}]}}" },
		{ "{'type':'response.output_item.done','item':{'role':"
		  "'assistant','content':[{'type':'output_text'}]}}",
		    "{'type':'response.output_item.done','item':{'role':"
		    "'assistant','content':[{'type':'text'}]}}" },
		{ "{'type':'response.content_part.done',"
		  "'part':{'type':'output_text','text':'a'}}",
		    "{'type':'response.content_part.done',"
		    "'part':{'type':'text','text':'a'}}" },
		{ "{'type':'response.content_part.added',"
		  "'part':{'type':'audio'}}",
		    "{'type':'response.content_part.added',"
		    "'part':{'type':'audio'}}" },
		{ "{'type':'error','error':{'type':'output_text'}}",
		    "{'type':'error','error':{'type':'output_text'}}" },
	};

	(void)state;
	check_all(cases, COUNT(cases), false);
}

static void
leaves_out_the_second_event_of_an_item(void **state)
{
	json_t *event = parse("{'type':'conversation.item.done','item':{}}");

	(void)state;
	assert_false(dialect_to_beta(event));
	json_decref(event);
}

static void
shows_the_session_as_the_beta_did(void **state)
{
	static const struct pair cases[] = {
		{ "{'type':'session.created','session':{'type':'realtime',"
		  "'object':'realtime.session','id':'s','model':'m',"
		  "'output_modalities':['audio'],'max_output_tokens':'inf',"
		  "'instructions':'a','tools':[],'audio':{'input':{"
		  "'format':{'type':'audio/pcm','rate':24000},"
		  "'transcription':null,'noise_reduction':null,"
		  "'turn_detection':{'type':'server_vad'}},'output':{"
		  "'format':{'type':'audio/pcma'},'voice':'marin',"
		  "'speed':1.0}}}}",
		    "{'type':'session.created','session':{"
		    "'object':'realtime.session','id':'s','model':'m',"
		    "'modalities':['text','audio'],"
		    "'max_response_output_tokens':'inf',"
		    "'instructions':'a','tools':[],"
		    "'input_audio_format':'pcm16',"
		    "'input_audio_transcription':null,"
		    "'input_audio_noise_reduction':null,"
		    "'turn_detection':{'type':'server_vad'},"
		    "'output_audio_format':'g711_alaw','voice':'marin',"
		    "'speed':1.0}}" },
		{ "{'type':'session.updated','session':{'type':'realtime',"
		  "'output_modalities':['text'],'audio':{'later':1,"
		  "'input':{'later':2,'format':{'type':'audio/opus'}}}}}",
		    "{'type':'session.updated','session':{"
		    "'modalities':['text'],'audio':{'later':1,"
		    "'input':{'later':2}},"
		    "'input_audio_format':{'type':'audio/opus'}}}" },
		{ "{'type':'session.updated','session':"
		  "{'type':'transcription','audio':{'input':"
		  "{'turn_detection':null}}}}",
		    "{'type':'transcription_session.updated','session':"
		    "{'turn_detection':null}}" },
		{ "{'type':'session.created','session':"
		  "{'type':'transcription'}}",
		    "{'type':'transcription_session.created','session':{}}" },
	};

	(void)state;
	check_all(cases, COUNT(cases), false);
}

static void
shows_a_response_as_the_beta_did(void **state)
{
	static const struct pair cases[] = {
		{ "{'type':'response.done','response':{'id':'r',"
		  "'output_modalities':['audio'],'max_output_tokens':'inf',"
		  "'audio':{'output':{'voice':'marin',"
		  "'format':{'type':'audio/pcm','rate':24000}}},"
		  "'usage':{'total_tokens':1},'output':["
		  "{'type':'message','role':'assistant','content':["
		  "{'type':'output_audio','transcript':'a'},"
		  "{'type':'output_text','text':'a'}]},"
		  "{'type':'function_call','arguments':'{}'}]}}",
		    "{'type':'response.done','response':{'id':'r',"
		    "'modalities':['text','audio'],'max_output_tokens':'inf',"
		    "'voice':'marin','output_audio_format':'pcm16',"
		    "'usage':{'total_tokens':1},'output':["
		    "{'type':'message','role':'assistant','content':["
		    "{'type':'audio','transcript':'a'},"
		    "{'type':'text','text':'a'}]},"
		    "{'type':'function_call','arguments':'{}'}]}}" },
	};

	(void)state;
	check_all(cases, COUNT(cases), false);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moves_the_members_of_a_session_update),
		cmocka_unit_test(
		    makes_a_transcription_session_one_of_that_type),
		cmocka_unit_test(moves_the_members_of_a_response_to_create),
		cmocka_unit_test(renames_what_an_item_holds),
		cmocka_unit_test(leaves_what_both_have_in_common),
		cmocka_unit_test(renames_the_events_of_the_vendor),
		cmocka_unit_test(leaves_out_the_second_event_of_an_item),
		cmocka_unit_test(shows_the_session_as_the_beta_did),
		cmocka_unit_test(shows_a_response_as_the_beta_did),
	};

	return cmocka_run_group_tests_name("dialect", tests, NULL, NULL);
}
