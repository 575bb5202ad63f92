with

users as (

    select * from {{ ref('stg_saas__users') }}

),

final as (

    select
        site,
        user_id,
        account_id,
        {{ keyed_hash('saas', 'lower(trim(email))') }} as email_hash,
        {{ keyed_hash('saas', 'lower(trim(full_name))') }} as full_name_hash,
        role,
        signed_up_at,
        is_deleted,
        deleted_at
    from users

)

select * from final
